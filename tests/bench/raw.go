package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// rawTimes is how long runc took by itself.
type rawTimes struct {
	Checkpoint time.Duration `json:"checkpoint"`
	Get        time.Duration `json:"get"` // of the pages from the bucket
	Restore    time.Duration `json:"restore"`
}

// raw is a container that runc runs by itself, without containerd.
type raw struct {
	id     string
	bundle string
	runtime
	outputs []*output // kept open: a program that nobody listens to is ended by its next word
}

// runtime is an OCI runtime with a folder for its state.
type runtime struct {
	program string
	root    string
}

func (r runtime) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, r.program, append([]string{"--root", r.root}, args...)...)
}

const (
	runcProgram = "runc"
	runcRoot    = "/run/bench"
)

// measureRaw checkpoints and restores the program once with runc alone. In between its pages go into the bucket and come back from there.
func measureRaw(ctx context.Context, access string, mib int) (_ *rawTimes, err error) {
	bucket, err := openReference(ctx, access)
	if err != nil {
		return nil, err
	}
	c := &raw{id: "bench-raw", bundle: filepath.Join(home, "raw"), runtime: runtime{runcProgram, runcRoot}}
	c.remove(ctx)
	defer c.remove(context.WithoutCancel(ctx))
	if err := c.makeBundle(mib); err != nil {
		return nil, err
	}
	before, err := c.launch(ctx, "run", "--detach", "--bundle", c.bundle, c.id)
	if err != nil {
		return nil, err
	}
	last, err := before.countTo(firstFew)
	if err != nil {
		return nil, err
	}
	images := filepath.Join(c.bundle, "images")
	times := &rawTimes{}
	syscall.Sync()
	began := time.Now()
	if output, err := c.command(ctx, "checkpoint", "--image-path", images, "--work-path", images, c.id).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("runc checkpoint: %w: %s%s", err, output, criuError(images, "dump.log"))
	}
	times.Checkpoint = time.Since(began)
	pages := filepath.Join(images, "pages-1.img")
	if _, err := bucket.put(ctx, "raw", pages); err != nil {
		return nil, err
	}
	syscall.Sync()
	began = time.Now()
	if err := bucket.get(ctx, "raw", pages); err != nil {
		return nil, err
	}
	times.Get = time.Since(began)
	if err := bucket.remove(ctx, "raw"); err != nil {
		return nil, err
	}
	began = time.Now()
	after, err := c.launch(ctx, "restore", "--detach", "--image-path", images, "--work-path", images, "--bundle", c.bundle, c.id)
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, criuError(images, "restore.log"))
	}
	times.Restore = time.Since(began)
	_, err = after.countTo(last + 1)
	return times, err
}

// makeBundle makes the bundle of the program: a root file system of one file, and the mounts and namespaces that every container has.
func (c *raw) makeBundle(mib int) error {
	rootfs := filepath.Join(c.bundle, "rootfs")
	for _, dir := range []string{"proc", "dev", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(rootfs, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.Link(filepath.Join(home, "memory"), filepath.Join(rootfs, "memory")); err != nil {
		return err
	}
	spec := specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{Cwd: "/", Args: []string{"/memory", fmt.Sprintf("--mib=%d", mib)}, Env: []string{"PATH=/"}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
		}},
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.bundle, "config.json"), data, 0o600)
}

// launch runs a verb that leaves a container running, whose output goes where a container's has to: into a pipe.
func (c *raw) launch(ctx context.Context, args ...string) (*output, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	command := c.command(ctx, args...)
	command.Stdout, command.Stderr = to, to
	err = errors.Join(command.Run(), to.Close())
	o := &output{lines: bufio.NewScanner(from), from: from}
	if err != nil {
		_ = from.SetReadDeadline(time.Now().Add(time.Second))
		said, _ := io.ReadAll(from)
		return nil, fmt.Errorf("runc %s: %w: %s", args[0], err, said)
	}
	c.outputs = append(c.outputs, o)
	return o, nil
}

// remove ends the container and removes its files, whatever there is of it.
func (c *raw) remove(ctx context.Context) {
	_ = c.command(ctx, "delete", "--force", c.id).Run()
	_ = os.RemoveAll(c.bundle)
}

// output is what a container writes.
type output struct {
	lines *bufio.Scanner
	from  *os.File
}

// countTo reads until the container has counted at least that far.
func (o *output) countTo(least int) (int, error) {
	if err := o.from.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	last := ""
	for o.lines.Scan() {
		last = o.lines.Text()
		var n int
		if _, err := fmt.Sscanf(last, "count %d", &n); err == nil && n >= least {
			return n, nil
		}
	}
	return 0, fmt.Errorf("it did not count to %d, its last line is %q: %w", least, last, o.lines.Err())
}

// criuError returns the first error line of a log.
func criuError(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, "Error (") {
			return ": " + strings.TrimSpace(line)
		}
	}
	return ""
}
