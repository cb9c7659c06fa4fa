package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// RelayName is the name under which an OCI runtime calls this program in the place of CRIU.
const RelayName = "criu"

// The environment of a relay: the program that it stands before, the file that it makes before the restored processes may run, whether CRIU begins in
// a namespace of control groups of its own and whether the relay freezes the processes (true or false), the library that it loads into CRIU (empty for
// none), what the processes read in files that there are no more (JSON, by path), and where it writes what went wrong.
const (
	relayGroups  = "CHECKPOINT_RELAY_GROUPS"
	relayBegun   = "CHECKPOINT_RELAY_BEGUN"
	relayCRIU    = "CHECKPOINT_RELAY_CRIU"
	relayFiles   = "CHECKPOINT_RELAY_FILES"
	relayHold    = "CHECKPOINT_RELAY_HOLD"
	relayPreload = "CHECKPOINT_RELAY_PRELOAD"
	relayLog     = "CHECKPOINT_RELAY_LOG"
)

// relayLogName is the file beside CRIU's log to which a relay writes, and relayTail how much of its end is passed on, in bytes.
const (
	relayLogName = "relay.log"
	relayTail    = 512
)

const (
	// swrkSocket is the descriptor by which an OCI runtime speaks to `criu swrk 3`.
	swrkSocket = 3
	// maxMessage is more than a request with the mounts of a container has, in bytes.
	maxMessage = 1 << 20
	// What CRIU reports when all tasks have their memory and wait for it, and when all stand still just before it lets go of them.
	postRestore = "post-restore"
	preResume   = "pre-resume"
)

// Relay is CRIU as an OCI runtime sees it: it hands all messages on. Before the restored processes may run it notes that, and freezes them if it
// is to, so that they have not run an instruction when the restore is done. It returns the exit code of CRIU, and ends with the runtime.
func Relay(args []string) (code int) {
	r := &relay{}
	runtime.LockOSThread() // CRIU ends with the thread that started it
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		r.log("%v", err)
	}
	code, err := r.run(args)
	if err != nil {
		r.log("%v", err)
	}
	return code
}

type relay struct {
	caller, criu *net.UnixConn
	process      *exec.Cmd
}

func (r *relay) log(format string, args ...any) {
	file, err := os.OpenFile(os.Getenv(relayLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer file.Close()
	_, _ = fmt.Fprintf(file, format+"\n", args...)
}

func (r *relay) run(args []string) (int, error) {
	inherited, err := inheritedFiles()
	if err != nil {
		return 1, err
	}
	if !isRestore(args) || len(inherited) == 0 || inherited[0].Fd() != swrkSocket { // nothing to relay
		criu := os.Getenv(relayCRIU)
		return 1, syscall.Exec(criu, append([]string{criu}, args...), os.Environ())
	}
	if r.caller, err = socketOf(inherited[0]); err != nil {
		return 1, err
	}
	// The runtime moves this process into the container's control group before it sends the first message. CRIU has to begin there.
	first, files, err := receiveFrom(r.caller)
	if err != nil {
		return 1, err
	}
	if first, err = ownFiles(first, os.Getppid()); err != nil {
		return 1, err
	}
	copies, first, err := lendCopies(first, os.Getenv(relayFiles), swrkSocket+len(inherited))
	if err != nil {
		return 1, err
	}
	if err := r.start(args, slices.Concat(inherited[1:], copies)); err != nil {
		return 1, err
	}
	if err := sendTo(r.criu, first, files); err != nil {
		return 1, err
	}
	go func() {
		for {
			message, files, err := receiveFrom(r.caller)
			if err != nil || sendTo(r.criu, message, files) != nil {
				_ = r.criu.CloseWrite()
				return
			}
		}
	}()
	for {
		message, files, err := receiveFrom(r.criu)
		if err != nil {
			break
		}
		switch script := scriptOf(message); {
		case script == postRestore:
			if err := note(os.Getenv(relayBegun)); err != nil { // without an answer CRIU ends all that it has restored
				_ = r.criu.Close()
				return 1, errors.Join(err, r.process.Wait())
			}
		case script == preResume && os.Getenv(relayHold) == strconv.FormatBool(true):
			if err := r.hold(); err != nil {
				r.log("the processes run already: %v", err)
			}
		}
		if err := sendTo(r.caller, message, files); err != nil {
			break
		}
	}
	_ = r.caller.CloseWrite()
	err = r.process.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// start runs CRIU with the descriptors as this process got them, but for the socket, which is our own.
func (r *relay) start(args []string, inherited []*os.File) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket of CRIU")
	defer theirs.Close()
	if r.criu, err = socketOf(os.NewFile(uintptr(pair[0]), "socket to CRIU")); err != nil {
		return err
	}
	r.process = exec.Command(os.Getenv(relayCRIU), args...)
	r.process.Stdin, r.process.Stdout, r.process.Stderr = os.Stdin, os.Stdout, os.Stderr
	r.process.ExtraFiles = append([]*os.File{theirs}, inherited...)
	r.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getenv(relayGroups) == strconv.FormatBool(true) {
		r.process.SysProcAttr.Cloneflags = unix.CLONE_NEWCGROUP
	}
	r.process.Env = os.Environ()
	if library := os.Getenv(relayPreload); library != "" {
		r.process.Env = append(r.process.Env, "LD_PRELOAD="+library)
	}
	return r.process.Start()
}

// hold freezes the control group of the restored processes, which is that of this process and of CRIU until these leave it.
func (r *relay) hold() error {
	group, err := cgroupOf(os.Getpid())
	if err != nil {
		return err
	}
	if err := errors.Join(enterOwnCgroup(os.Getpid()), enterOwnCgroup(r.process.Process.Pid)); err != nil {
		return err
	}
	return group.freeze(endPatience)
}

// ownFiles opens the folders that a request names by descriptors of the runtime's process, and names them by our own: CRIU looks for them in the
// process that made its socket.
func ownFiles(message []byte, process int) ([]byte, error) {
	request := &rpc.CriuReq{}
	if err := request.UnmarshalVT(message); err != nil {
		return nil, err
	}
	options := request.GetOpts()
	if options == nil {
		return message, nil
	}
	for _, field := range []**int32{&options.ImagesDirFd, &options.WorkDirFd} {
		if *field == nil || **field < 0 {
			continue
		}
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/fd/%d", process, **field), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		own := int32(fd)
		*field = &own
	}
	return request.MarshalVT()
}

// lendCopies makes files in memory with what the restored processes have to read in files that there are no more, and has a request name them to CRIU
// by their paths. CRIU gets them as descriptors of these numbers.
func lendCopies(message []byte, contents string, number int) (copies []*os.File, changed []byte, err error) {
	wanted, request := map[string]string{}, &rpc.CriuReq{}
	if contents != "" {
		err = json.Unmarshal([]byte(contents), &wanted)
	}
	if err = errors.Join(err, request.UnmarshalVT(message)); err != nil || len(wanted) == 0 || request.GetType() != rpc.CriuReqType_RESTORE {
		return nil, message, err
	}
	for _, path := range slices.Sorted(maps.Keys(wanted)) {
		file, err := copyInMemory(filepath.Base(path), wanted[path])
		if err != nil {
			return nil, nil, err
		}
		key, fd := strings.TrimPrefix(path, "/"), int32(number+len(copies))
		request.Opts.InheritFd = append(request.Opts.InheritFd, &rpc.InheritFd{Key: &key, Fd: &fd})
		copies = append(copies, file)
	}
	changed, err = request.MarshalVT()
	return copies, changed, err
}

// copyInMemory is a file that has no name and cannot be written to.
func copyInMemory(name, content string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	writable := os.NewFile(uintptr(fd), name)
	defer writable.Close()
	if _, err := writable.WriteString(content); err != nil {
		return nil, err
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// scriptOf returns the name of what CRIU reports; nothing for a message of another kind.
func scriptOf(message []byte) string {
	response := &rpc.CriuResp{}
	if response.UnmarshalVT(message) != nil || response.GetType() != rpc.CriuReqType_NOTIFY {
		return ""
	}
	return response.GetNotify().GetScript()
}

// isRestore tells a restore from a question for CRIU's version, which comes by another descriptor. What that one finds as number 3 is anybody's: a
// containerd-shim that is busy starting something else may have left its own socket there.
func isRestore(args []string) bool {
	return len(args) == 2 && args[0] == "swrk" && args[1] == strconv.Itoa(swrkSocket)
}

// note makes a file, durably, and before it what is known of the restore.
func note(path string) error {
	if err := capture.SyncRestore(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return errors.Join(syncFile(path), syncFile(filepath.Dir(path)))
}

// inheritedFiles returns the descriptors from 3 on that this process was started with, as far as there is no gap.
func inheritedFiles() ([]*os.File, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	there := map[int]bool{}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		there[fd] = err == nil && flags&unix.FD_CLOEXEC == 0 // what this program opened itself closes at exec
	}
	var files []*os.File
	for fd := swrkSocket; there[fd]; fd++ {
		files = append(files, os.NewFile(uintptr(fd), "inherited "+strconv.Itoa(fd)))
	}
	return files, nil
}

// socketOf makes a connection of a socket's descriptor, which it closes.
func socketOf(file *os.File) (*net.UnixConn, error) {
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("descriptor %s is no unix socket", file.Name())
	}
	return socket, nil
}

// receiveFrom returns the next message with the descriptors that came along.
func receiveFrom(conn *net.UnixConn) (message []byte, files []int, err error) {
	message, oob := make([]byte, maxMessage), make([]byte, 4096)
	n, oobn, flags, _, err := conn.ReadMsgUnix(message, oob)
	switch {
	case err != nil:
		return nil, nil, err
	case n == 0:
		return nil, nil, io.EOF
	case flags&unix.MSG_TRUNC != 0:
		return nil, nil, fmt.Errorf("a message has more than %d bytes", maxMessage)
	}
	controls, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, nil, err
	}
	for i := range controls {
		some, err := unix.ParseUnixRights(&controls[i])
		if err != nil {
			continue // it carries something else
		}
		files = append(files, some...)
	}
	return message[:n], files, nil
}

// sendTo hands a message on, and closes the descriptors that go along.
func sendTo(conn *net.UnixConn, message []byte, files []int) error {
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	_, _, err := conn.WriteMsgUnix(message, oob, nil)
	for _, fd := range files {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

// relaying is how CRIU is called through a Relay.
type relaying struct {
	// folder is where the link lies by which the runtime finds the relay.
	folder string
	// begun is made before the restored processes may run.
	begun string
	// ownGroups has the restored processes get a namespace of control groups of their own. CRIU, which leaves control groups alone, makes none.
	ownGroups bool
	hold      bool
	// files are what the restored processes read in files that there are no more, by their paths.
	files map[string]string
	// library is loaded into CRIU; empty for none.
	library string
	log     string
}

// through returns the runtime with a relay in the place of CRIU.
func (o OCI) through(r relaying) (OCI, error) {
	criu, err := findIn(o.CRIUDirectory+":"+os.Getenv("PATH"), RelayName)
	if err != nil {
		return o, err
	}
	self, err := os.Executable()
	if err != nil {
		return o, err
	}
	link := filepath.Join(r.folder, RelayName)
	if target, err := os.Readlink(link); err != nil || target != self {
		temporary := fmt.Sprintf("%s.%d", link, os.Getpid())
		if err := errors.Join(os.MkdirAll(r.folder, 0o755), os.Symlink(self, temporary), os.Rename(temporary, link)); err != nil {
			return o, err
		}
	}
	files, err := json.Marshal(r.files)
	if err != nil {
		return o, err
	}
	o.environment = append(o.Environment(), "PATH="+r.folder+":"+os.Getenv("PATH"),
		relayCRIU+"="+criu, relayBegun+"="+r.begun, relayHold+"="+strconv.FormatBool(r.hold),
		relayGroups+"="+strconv.FormatBool(r.ownGroups), relayPreload+"="+r.library, relayFiles+"="+string(files), relayLog+"="+r.log)
	return o, nil
}

// findIn looks for a program in the folders of a PATH.
func findIn(path, name string) (string, error) {
	for folder := range strings.SplitSeq(path, ":") {
		file := filepath.Join(folder, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("there is no %s in %s", name, path)
}
