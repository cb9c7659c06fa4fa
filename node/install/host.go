package install

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/placed"
)

// sockets are where container runtimes listen, in the order in which they are tried: that of containerd, that of k3s and RKE2, that of CRI-O.
var sockets = []string{"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock", "/run/crio/crio.sock"}

// Host finds the node's container runtime: the agent shares the process IDs of the node, and so sees its files behind /proc/1/root.
type Host struct {
	// Socket is that of the container runtime on the node; empty has the known ones tried.
	Socket string
}

// containerRuntime is what serves a node's container runtime interface, as far as an installation is concerned with it.
type containerRuntime interface {
	// name is for a person.
	name() string
	// root is where its file system is seen from here.
	root() string
	// handlers derives ours from those of the node, whose programs are absolute paths then. What cannot be copied is left out, but for the default one.
	handlers(ctx context.Context, home string) ([]handler, error)
	// targets says where they go in its configuration.
	targets(ctx context.Context, c configuration, handlers []handler) ([]target, error)
	// wouldServe tells why it would not have those handlers after a restart, or what else it would have lost.
	wouldServe(ctx context.Context, handlers []handler) error
	// serves returns the names of the handlers that it has now.
	serves(ctx context.Context) ([]string, error)
	// sandboxes returns the IDs of the sandboxes of our handlers that run.
	sandboxes(ctx context.Context) ([]string, error)
	// restart has it start anew. Pods are not touched by that.
	restart(ctx context.Context) error

	// version is what it is, with its version, for a person.
	version(ctx context.Context) (string, error)
	// says runs a program of the node, and returns all that it writes, with an error where it does not end with 0.
	says(ctx context.Context, program string, words ...string) (string, error)
	// capabilities are those of its process, as a set of bits.
	capabilities() (uint64, error)
}

// find returns the container runtime: the first behind a socket that answers.
func (h Host) find(ctx context.Context) (containerRuntime, error) {
	tried := sockets
	if h.Socket != "" {
		tried = []string{h.Socket}
	}
	var failures []error
	for _, socket := range tried {
		p, err := behind(placed.At("/proc/1/root", socket))
		if err == nil {
			_, err = p.serves(ctx)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", socket, err))
			continue
		}
		if filepath.Base(p.words[0]) == "crio" {
			return &crio{p}, nil
		}
		return &containerd{p}, nil
	}
	return nil, fmt.Errorf("find the container runtime: %w", errors.Join(failures...))
}

// process is that of a container runtime.
type process struct {
	socket string
	pid    int
	// program is the path of its program on the node, words its command line.
	program string
	words   []string
}

// behind asks the kernel who listens on a socket.
func behind(socket string) (process, error) {
	connection, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return process{}, err
	}
	defer connection.Close()
	raw, err := connection.(*net.UnixConn).SyscallConn()
	if err != nil {
		return process{}, err
	}
	var peer *unix.Ucred
	if controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); controlErr != nil {
		return process{}, controlErr
	}
	if err != nil || peer.Pid == 0 {
		return process{}, errors.Join(err, errors.New("its process is not to be seen; the agent needs hostPID"))
	}
	p := process{socket: socket, pid: int(peer.Pid)}
	if p.program, err = os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid)); err != nil {
		return p, err
	}
	p.program = strings.TrimSuffix(p.program, " (deleted)")
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	p.words = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	return p, err
}

// root: that of the node's first process is the same in most cases, and outlives a restart of this one.
func (p process) root() string {
	const first = "/proc/1/root"
	own := fmt.Sprintf("/proc/%d/root", p.pid)
	ownInfo, err := os.Stat(own)
	firstInfo, firstErr := os.Stat(first)
	if err != nil || firstErr == nil && os.SameFile(ownInfo, firstInfo) {
		return first
	}
	return own
}

// option returns the value of one of the options of its command line, by any of its names, as -c and --config; or the other value.
func (p process) option(other string, names ...string) string {
	for i, word := range p.words {
		name, value, bound := strings.Cut(word, "=")
		if !slices.Contains(names, name) {
			continue
		}
		if bound {
			return value
		}
		if i+1 < len(p.words) {
			return p.words[i+1]
		}
	}
	return other
}

// ask runs a program of the node among its files, and returns what it writes.
func (p process) ask(ctx context.Context, program string, words ...string) ([]byte, error) {
	output, err := p.command(ctx, program, words...).Output()
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(ended.Stderr))
	}
	return output, err
}

// says runs a program of the node among its mounts, too, as one that mounts something itself needs them, and returns all that it writes.
func (p process) says(ctx context.Context, program string, words ...string) (string, error) {
	type answer struct {
		output []byte
		err    error
	}
	answers := make(chan answer)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread, which has changed, ends with the goroutine
		command := p.command(ctx, program, words...)
		if err := enterMounts(filepath.Join(filepath.Dir(p.root()), "ns/mnt")); err != nil {
			answers <- answer{err: fmt.Errorf("enter the mounts of the node: %w", err)}
			return
		}
		command.SysProcAttr.Chroot = "" // a thread that enters them has their root
		output, err := command.CombinedOutput()
		answers <- answer{output, err}
	}()
	a := <-answers
	return string(a.output), a.err
}

// enterMounts has the thread see the mounts of a namespace, and what it starts.
func enterMounts(namespace string) error {
	file, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // root and working directory, which it has in common with the other threads
		return err
	}
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNS)
}

// command is a program of the node among its files.
func (p process) command(ctx context.Context, program string, words ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, program, words...)
	command.Path, command.Err = program, nil // it is found there, not here
	if program == p.program {
		command.Args[0] = p.words[0] // one program may be several, by the name that it is called by
	}
	command.Dir = "/"
	command.Env = []string{"PATH=" + strings.Join(programFolders, ":")}
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root()}
	return command
}

func (p process) capabilities() (uint64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return 0, err
	}
	return capabilitiesIn(string(status))
}

// capabilitiesIn are the effective ones in the file status of a process.
func capabilitiesIn(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if value, is := strings.CutPrefix(line, "CapEff:"); is {
			return strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	return 0, errors.New("it does not say CapEff")
}

// programFolders are those in which a node's programs are looked for.
var programFolders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// lookUp returns the path of a program on the node. It is first looked for beside that of the container runtime, where k3s has its own.
func (p process) lookUp(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, dir := range append([]string{filepath.Dir(p.program)}, programFolders...) {
		if path := filepath.Join(dir, name); isProgram(p.root(), path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("the OCI runtime %q is in no folder of the node's PATH", name)
}

// isProgram tells whether there is a program of that path on the node, of which the agent's own file system shows little.
func isProgram(root, path string) bool {
	info, err := os.Stat(placed.At(root, path))
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

// checkRuntime returns an error unless an OCI runtime of the node says that it is runc, or something before runc.
func (p process) checkRuntime(ctx context.Context, program string) error {
	says, err := p.ask(ctx, program, "--version")
	if err != nil {
		return fmt.Errorf("ask the OCI runtime %s for its version: %w", program, err)
	}
	return isRunc(program, string(says))
}

// isRunc returns an error unless what an OCI runtime says of its version is that of runc, or of something before runc: pods of others cannot be captured.
// crun calls CRIU with words, images and a library of its own.
func isRunc(path, says string) error {
	for line := range strings.Lines(says) {
		if strings.HasPrefix(line, "runc version") {
			return nil
		}
	}
	first, _, _ := strings.Cut(says, "\n")
	return fmt.Errorf("the OCI runtime of the default handler is %s, which says %q; it may be runc, or a program before it", path, first)
}

// restart: where systemd is at work it is asked, elsewhere whoever looks after the process starts another when it ends.
func (p process) restart(ctx context.Context) error {
	if unit := p.unit(); unit != "" {
		if _, err := p.ask(ctx, cmp.Or(p.found("systemctl"), "/usr/bin/systemctl"), "restart", unit); err != nil {
			return fmt.Errorf("restart %s: %w", unit, err)
		}
		return nil
	}
	if err := unix.Kill(p.pid, unix.SIGTERM); err != nil {
		return fmt.Errorf("end the container runtime: %w", err)
	}
	for range 300 {
		if err := unix.Kill(p.pid, 0); errors.Is(err, unix.ESRCH) {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the container runtime does not end")
}

// found is the path of a program on the node, or nothing.
func (p process) found(name string) string {
	path, err := p.lookUp(name)
	if err != nil {
		return ""
	}
	return path
}

// unit is the systemd unit of the process; empty where there is no systemd. That of the containerd of k3s and RKE2 is their own, and its restart is
// what makes its configuration anew.
func (p process) unit() string {
	if name, err := os.ReadFile("/proc/1/comm"); err != nil || strings.TrimSpace(string(name)) != "systemd" {
		return ""
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.pid))
	if err != nil {
		return ""
	}
	return unitIn(string(groups))
}

func unitIn(groups string) string {
	for line := range strings.Lines(groups) {
		for name := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			if strings.HasSuffix(name, ".service") {
				return name
			}
		}
	}
	return ""
}
