package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/criu"
)

// OCI calls the OCI runtime that does the work: runc, or a program before it.
type OCI struct {
	// Path is that of the runtime's program.
	Path string
	// CRIUDirectory is put first into its PATH.
	CRIUDirectory string
	// CRIUOptions is a file of further options for CRIU, or empty.
	CRIUOptions string
	// Global are the words that stand before the verb, as --root DIR and --systemd-cgroup; not those of its log.
	Global []string
	// environment takes the place of Environment's, where there is one.
	environment []string
}

// Environment is that of this process, with the right criu first in PATH.
func (o OCI) Environment() []string {
	if o.environment != nil {
		return o.environment
	}
	environment := append(os.Environ(), "PATH="+o.CRIUDirectory+":"+os.Getenv("PATH"))
	if o.CRIUOptions != "" {
		environment = append(environment, "CRIU_CONFIG_FILE="+o.CRIUOptions)
	}
	return environment
}

// command returns a call of the runtime whose complaints go to a log file in dir, from which call reads them. When this process ends, it ends.
func (o OCI) command(ctx context.Context, log string, words ...string) *exec.Cmd {
	args := append([]string{}, o.Global...)
	args = append(append(args, "--log", log, "--log-format", "json"), words...)
	command := exec.CommandContext(ctx, o.Path, args...)
	command.Env = o.Environment()
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	command.WaitDelay = time.Second
	return command
}

// call runs the runtime and returns what it complained of.
func (o OCI) call(ctx context.Context, words ...string) error {
	log, err := os.CreateTemp("", "checkpoint-runtime-")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	return o.run(o.command(ctx, log.Name(), words...), log.Name(), words[0])
}

func (o OCI) run(command *exec.Cmd, log, verb string) error {
	var stderr bytes.Buffer
	if command.Stderr == nil {
		command.Stderr = &stderr
	}
	return o.complain(runHere(command), log, verb, stderr.String())
}

// runHere runs a command from a thread that does nothing else meanwhile. A command that ends with its parent ends with the thread that started it
// (prctl(2), PR_SET_PDEATHSIG), and threads that enter a namespace end: see inNamespace.
func runHere(command *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return command.Run()
}

// complain adds to the error of a call what the runtime wrote.
func (o OCI) complain(err error, log, verb, stderr string) error {
	if err == nil {
		return nil
	}
	said := lastComplaint(log)
	if said == "" {
		said = distinctLines(stderr)
	}
	return fmt.Errorf("%s %s: %w: %s", filepath.Base(o.Path), verb, err, said)
}

// distinctLines leaves out what was said before: on a full disk the runtime complains of its log with each line that it writes.
func distinctLines(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(kept, line) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// freezePatience is for how long a container may take to be frozen.
const freezePatience = 15 * time.Second

// Pause freezes all processes of a container. On a busy node, or when one waits for its disk, it takes a process longer to stop than runc waits for
// that ("unable to freeze", control groups v1; then it thaws them again): so it is tried again for a while, as the state would be lost.
func (o OCI) Pause(ctx context.Context, id string) error {
	end, wait := time.Now().Add(freezePatience), 20*time.Millisecond
	for {
		err := o.call(ctx, "pause", id)
		if err == nil || time.Now().After(end) || !strings.Contains(err.Error(), "unable to freeze") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			wait = min(2*wait, 500*time.Millisecond)
		}
	}
}

// Resume lets them go on. That they are not frozen is an error.
func (o OCI) Resume(ctx context.Context, id string) error { return o.call(ctx, "resume", id) }

// Kill sends a signal to a container's first process; a frozen container that gets KILL is thawed.
func (o OCI) Kill(ctx context.Context, id, signal string) error {
	return o.call(ctx, "kill", id, signal)
}

// A call in which CRIU dies before it begins is made so often, with pauses that grow by this.
const (
	criuTries = 10
	criuPause = 100 * time.Millisecond
)

// untilCRIUBegins makes a call, and again when CRIU died while runc asked for its version, which is the first that runc does with it: nothing has been
// touched then. On a node that restores twenty containers at once that was seen now and then ("connection reset by peer").
func untilCRIUBegins(ctx context.Context, pause time.Duration, call func() error) error {
	for try := 1; ; try++ {
		err := call()
		if try == criuTries || ctx.Err() != nil || !diedBefore(err) {
			return err
		}
		time.Sleep(time.Duration(try) * pause)
	}
}

// diedBefore tells whether a call failed since CRIU had died before it began.
func diedBefore(err error) bool {
	if refusal := (*CRIUError)(nil); errors.As(err, &refusal) { // of an earlier call, whose log is there
		err = refusal.Err
	}
	return err != nil && strings.Contains(err.Error(), "CRIU version check failed")
}

// checkpoint dumps a container into the folder images and leaves it as it was, frozen or not. It fails with CRIU's first error line.
func (o OCI) checkpoint(ctx context.Context, id, images, work string, more []string) error {
	return untilCRIUBegins(ctx, criuPause, func() error { return o.checkpointOnce(ctx, id, images, work, more) })
}

func (o OCI) checkpointOnce(ctx context.Context, id, images, work string, more []string) error {
	log := filepath.Join(work, "runtime.log")
	words := append([]string{"checkpoint", "--leave-running", "--file-locks", "--tcp-established", "--link-remap",
		"--manage-cgroups-mode", "ignore", "--image-path", images, "--work-path", work}, more...)
	command := o.command(ctx, log, append(words, id)...)
	return withCRIU(o.run(command, log, "checkpoint"), filepath.Join(work, criu.DumpLog))
}

// restore starts a container from the folder images. The restored processes get this process's standard input and outputs. It fails with
// CRIU's first error line, and then nothing is left of the container.
func (o OCI) restore(ctx context.Context, id, images, work, bundle string, more []string) error {
	return untilCRIUBegins(ctx, criuPause, func() error { return o.restoreOnce(ctx, id, images, work, bundle, more) })
}

func (o OCI) restoreOnce(ctx context.Context, id, images, work, bundle string, more []string) error {
	log := filepath.Join(work, "runtime.log")
	words := append([]string{"restore", "--detach", "--file-locks", "--tcp-established", "--manage-cgroups-mode", "ignore",
		"--image-path", images, "--work-path", work, "--bundle", bundle}, more...)
	command := o.command(ctx, log, append(words, id)...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.WaitDelay = 5 * time.Second
	command.Cancel = func() error { // without CRIU the runtime fails, and cleans up
		killDescendants(command.Process.Pid)
		return nil
	}
	err := runHere(command)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	if err = o.complain(err, log, "restore", ""); diedBefore(err) {
		err = fmt.Errorf("%w (relay: %s)", err, tailOf(filepath.Join(work, relayLogName), relayTail))
	}
	if err = withCRIU(err, filepath.Join(work, criu.RestoreLog)); err != nil {
		o.remove(context.WithoutCancel(ctx), id)
	}
	return err
}

// remove removes what a failed restore left of a container; often that is nothing.
func (o OCI) remove(ctx context.Context, id string) {
	for i, word := range o.Global {
		if word == "--root" && i+1 < len(o.Global) {
			_ = unix.Unmount(filepath.Join(o.Global[i+1], id, "criu-root"), unix.MNT_DETACH) // runc's, when it was killed
		}
	}
	_ = o.call(ctx, "delete", "--force", id)
}

// CRIUError is a failure of CRIU: the error lines of its log.
type CRIUError struct {
	Lines []string
	Err   error
}

// Error is CRIU's first line, which says more than the runtime's.
func (e *CRIUError) Error() string { return e.Lines[0] }

// Unwrap returns the runtime's error.
func (e *CRIUError) Unwrap() error { return e.Err }

// maxErrorLines is how many of CRIU's error lines are passed on.
const maxErrorLines = 12

func withCRIU(err error, log string) error {
	if err == nil {
		return nil
	}
	file, openErr := os.Open(log)
	if openErr != nil {
		return err
	}
	defer file.Close()
	if lines := criu.ErrorLines(file, maxErrorLines); len(lines) > 0 {
		return &CRIUError{Lines: lines, Err: err}
	}
	return err
}

// criuLines returns the error lines of CRIU that are behind an error; none if it is not CRIU's.
func criuLines(err error) []string {
	if refusal := (*CRIUError)(nil); errors.As(err, &refusal) {
		return refusal.Lines
	}
	return nil
}

// lastComplaint returns the last error of a log that a runtime wrote as JSON lines.
func lastComplaint(log string) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	said := ""
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal(line, &entry); err == nil && entry.Level == "error" {
			said = entry.Msg
		}
	}
	return strings.TrimSpace(said)
}

// tailOf returns the end of a file, for a person.
func tailOf(path string, most int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > most {
		if _, err := file.Seek(-most, 2); err != nil {
			return ""
		}
	}
	var data bytes.Buffer
	_, err = data.ReadFrom(file)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return ""
	}
	return data.String()
}
