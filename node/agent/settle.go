package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// SettleOnNode returns an Agent.Settle that starts the runtime on the node, among the node's own mounts, and does not wait for it: the lock of
// the pod tells when it is done.
func SettleOnNode(node capture.Node) func(context.Context, string) error {
	return func(_ context.Context, podUID string) error {
		command, err := startOnNode(node, io.Discard, "settle", podUID)
		if err != nil {
			return fmt.Errorf("settle the captures of pod %s: %w", podUID, err)
		}
		go func() { _ = command.Wait() }() // its own log says what it did
		return nil
	}
}

// CaptureOnNode returns an Agent.CaptureLive that has the runtime capture a pod that goes on, and waits for it. It goes on when the agent ends.
func CaptureOnNode(node capture.Node) func(context.Context, string, capture.Asks) error {
	return func(_ context.Context, podUID string, asks capture.Asks) error {
		var said bytes.Buffer
		command, err := startOnNode(node, &said, "capture-live", podUID, asks.Checkpoint, asks.UID)
		if err == nil {
			err = command.Wait()
		}
		if said.Len() > 0 && err != nil {
			err = errors.New(strings.TrimSpace(said.String()))
		}
		return err
	}
}

// startOnNode starts the runtime with a verb of its own, among the node's own mounts.
func startOnNode(node capture.Node, said io.Writer, words ...string) (*exec.Cmd, error) {
	command := exec.Command(filepath.Join(node.Home(), "bin/checkpoint-runtime"), words...)
	command.Dir = "/"
	command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	command.Stderr = said
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread stays in the node's mounts, and ends with this
		err := enterMountsOf(1)
		if err == nil {
			err = command.Start() // the child is a copy of this thread
		}
		started <- err
	}()
	return command, <-started
}

// enterMountsOf moves the calling thread into the mount namespace of a process.
func enterMountsOf(pid int) error {
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(int(file.Fd()), unix.CLONE_NEWNS)
}
