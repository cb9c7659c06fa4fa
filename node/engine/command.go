package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

const (
	// saidMost is how much of what a hook writes to its standard error is kept, in bytes: the end of it; and lastLineMost how much of its last line.
	saidMost     = 4 << 10
	lastLineMost = 200
	// hookPatience is for how long a hook that was killed may take to be gone.
	hookPatience = 2 * time.Second
)

// execute runs a hook in the container, as kubectl exec would, and ends what it leaves running in its session. The error says for a person why it failed.
func (c *Container) execute(ctx context.Context, hook capture.Command) error {
	if _, alive := c.pid(); !alive {
		return errors.New("the container has ended")
	}
	timely, cancel := context.WithTimeoutCause(ctx, hook.Timeout, fmt.Errorf("it was killed after %s", hook.Timeout))
	defer cancel()
	work, err := os.MkdirTemp("", "checkpoint-hook-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	pidFile, log := filepath.Join(work, "pid"), filepath.Join(work, "log")
	command := c.OCI().command(timely, log, append([]string{"exec", "--pid-file", pidFile, c.ID}, hook.Words...)...)
	said := &tail{}
	command.Stderr, command.WaitDelay = said, hookPatience
	if null, err := c.OpenNull(); err == nil { // the node's could not be captured with what the hook leaves running
		defer null.Close()
		command.Stdin, command.Stdout = null, null
	}
	command.Cancel = func() error {
		if !c.endSession(pidFile) { // it has not begun, or another runtime keeps no such file
			killDescendants(command.Process.Pid)
		}
		return nil // the runtime ends with what it runs
	}
	ended := make(chan struct{})
	go c.endWhatIsLeft(pidFile, ended)
	err = runHere(command)
	close(ended)
	c.endSession(pidFile)
	if err == nil || errors.Is(err, exec.ErrWaitDelay) { // it succeeded, and left something in a session of its own that holds its outputs
		return nil
	}
	return explainHook(timely, err, lastComplaint(log), said.lastLine())
}

// endWhatIsLeft ends what a hook leaves running when it ends itself: the runtime waits for all that hold its outputs. It returns when the runtime has ended.
func (c *Container) endWhatIsLeft(pidFile string, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-time.After(killInterval):
		}
		data, err := os.ReadFile(pidFile)
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && !isAlive(pid) {
			c.endSession(pidFile)
		}
	}
}

// explainHook says why a hook failed, by the error of the OCI runtime that ran it, the runtime's own complaint, and what the hook said.
func explainHook(ctx context.Context, err error, complaint, said string) error {
	why := err.Error()
	exit := (*exec.ExitError)(nil)
	switch {
	case ctx.Err() != nil:
		why = context.Cause(ctx).Error()
	case complaint != "":
		why, said = "it cannot be started", lastLine(complaint)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		why = fmt.Sprintf("exit code %d", exit.ExitCode())
	}
	if said == "" {
		return errors.New(why)
	}
	return fmt.Errorf("%s: %s", why, said)
}

// endSession kills what runs in the session of a hook, of which the file has the first process: the runtime makes it the session's leader. It is false when
// there is nothing to be killed.
func (c *Container) endSession(pidFile string) (killed bool) {
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return false
	}
	session, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || session <= 1 {
		return false
	}
	init, alive := c.pid()
	if !alive {
		return false
	}
	group, err := cgroupOf(init)
	if err != nil || group.isRoot() {
		return false
	}
	for range 2 { // one may have started another meanwhile
		pids, err := group.processes() // of the container alone: the number may be another's by now
		if err != nil {
			return killed
		}
		for _, pid := range pids {
			if p, err := readProcess(pid); err == nil && p.session == session && pid != init {
				killed = unix.Kill(pid, unix.SIGKILL) == nil || killed
			}
		}
	}
	return killed
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

// Write never fails.
func (t *tail) Write(data []byte) (int, error) {
	t.kept = append(t.kept, data...)
	if extra := len(t.kept) - saidMost; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(data), nil
}

func (t *tail) lastLine() string { return lastLine(string(t.kept)) }

// lastLine returns the last line of a text that is not empty, without what a terminal would not show, in lastLineMost bytes at most.
func lastLine(text string) string {
	last := ""
	for line := range bytes.Lines([]byte(text)) {
		shown := strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, strings.ToValidUTF8(string(line), ""))
		last = cmp.Or(strings.TrimSpace(shown), last)
	}
	if len(last) > lastLineMost {
		last = strings.ToValidUTF8(last[:lastLineMost-len("…")], "") + "…"
	}
	return last
}
