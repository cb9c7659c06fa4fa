package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// taskStopped is how CRIU's images say that a process was stopped (https://github.com/checkpoint-restore/criu/blob/v4.2/criu/include/pid.h).
const taskStopped = 3

// stoppedProcess is a process that job control has stopped, by its number on the node and in the container.
type stoppedProcess struct {
	pid    int
	inside string
}

// letSeize has the stopped processes of a frozen container, which it returns, be no longer stopped. With the freezer of version 1, who wants
// to trace a stopped process that is frozen as well waits until it is thawed, and CRIU would wait for ever. They do not run before CRIU has
// them. Version 2 lets itself be traced.
func (g cgroup) letSeize() ([]stoppedProcess, error) {
	if g.unified != "" {
		return nil, nil
	}
	pids, err := g.processes()
	if err != nil {
		return nil, err
	}
	var stopped []stoppedProcess
	for _, pid := range pids {
		where, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid)) // as its state, a frozen one shows another
		if err != nil || string(where) != "do_signal_stop" {
			continue
		}
		inside, err := innerNumber(fmt.Sprintf("/proc/%d", pid))
		if err != nil {
			return stopped, err
		}
		stopped = append(stopped, stoppedProcess{pid, inside})
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			return stopped, fmt.Errorf("continue process %d: %w", pid, err)
		}
	}
	return stopped, nil
}

// stopAgain has the processes be stopped when they are thawed.
func stopAgain(stopped []stoppedProcess) error {
	var all error
	for _, p := range stopped {
		if err := unix.Kill(p.pid, unix.SIGSTOP); err != nil && !errors.Is(err, unix.ESRCH) {
			all = errors.Join(all, fmt.Errorf("stop process %d: %w", p.pid, err))
		}
	}
	return all
}

// innerNumber returns the number that a process or thread, which is given by its folder below /proc, has in its own namespace.
func innerNumber(folder string) (string, error) {
	status, err := os.ReadFile(filepath.Join(folder, "status"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(status)) {
		if numbers, found := strings.CutPrefix(line, "NSpid:"); found {
			fields := strings.Fields(numbers)
			return fields[len(fields)-1], nil
		}
	}
	return "", fmt.Errorf("%s/status has no line NSpid", folder)
}

// markStopped has the images say that the processes were stopped, as they will be again after the restore.
func markStopped(images string, stopped []stoppedProcess) error {
	for _, p := range stopped {
		err := rewriteImage(filepath.Join(images, "core-"+p.inside+".img"), maxCoreSize, func(image []byte) ([]byte, error) {
			return mapEntries(image, func(entry []byte) ([]byte, error) {
				core := &criucore.CoreEntry{}
				if err := proto.Unmarshal(entry, core); err != nil {
					return nil, err
				}
				if core.GetTc() == nil {
					return nil, errors.New("it has no task")
				}
				core.Tc.TaskState = proto.Uint32(taskStopped)
				return proto.Marshal(core)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
