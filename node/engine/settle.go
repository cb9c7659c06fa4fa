package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// maxAttempts bounds how often a capture is begun for the same signals.
const maxAttempts = 3

// attemptsFile counts, in a pod's folder of captures, those that were cut off; liveAttemptsFile those of a pod that goes on, which are not to take from what
// its last capture may need.
const (
	attemptsFile     = "attempts"
	liveAttemptsFile = "attempts-live"
)

// Settle finishes what a capture left that was killed: a dumped one is completed, another one is begun again, or given up when that
// cannot be, and the signals that it owed are delivered. It does nothing while somebody captures the pod. Restored containers that have been held for
// too long go on, and limits that a restore had lifted are put back. Hooks that are still to be run behind a restore are run.
func (e *Engine) Settle(ctx context.Context, podUID string) error {
	err := e.settlePod(ctx, podUID)
	if e.HasHooks(podUID) {
		err = errors.Join(err, e.AfterRestore(ctx, podUID))
	}
	return err
}

func (e *Engine) settlePod(ctx context.Context, podUID string) error {
	if e.overdue(podUID) {
		if err := e.endOverdue(ctx, podUID); err != nil {
			e.Log("%v", err)
		}
	}
	if err := e.settleLifted(podUID); err != nil {
		e.Log("%v", err)
	}
	_, err := os.Stat(e.Node.Captures(podUID))
	_, owedErr := os.Stat(signalsOf(e.Node, podUID).dir)
	if errors.Is(err, fs.ErrNotExist) && errors.Is(owedErr, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockPod(e.Node, podUID, 0)
	if err != nil {
		return nil // somebody is at it
	}
	defer lock.release()
	return e.captureLocked(ctx, podUID)
}

// settle deals with the partial folders of the pod.
func (a *attempt) settle(ctx context.Context) error {
	partials, err := filepath.Glob(filepath.Join(a.engine.Node.Captures(a.podUID), "*.partial"))
	for _, dir := range partials {
		a.engine.Log("settling %s, which was cut off", dir)
		err = errors.Join(err, a.settleOne(ctx, dir))
	}
	finished, globErr := filepath.Glob(filepath.Join(a.engine.Node.Captures(a.podUID), "[0-9]*"))
	for _, dir := range finished {
		if !strings.HasSuffix(dir, ".partial") {
			if syncErr := a.engine.settleSync(dir); syncErr != nil {
				a.engine.Log("%v", syncErr) // the next one tries again; what is owed must not wait for it
			}
		}
	}
	return errors.Join(err, globErr)
}

// settleSync brings a complete capture to the disk of which that is not known. One from before the node went down may have holes: it is given up, unless
// the volume of its pod has it, which the agent says before it removes the folder.
func (e *Engine) settleSync(dir string) error {
	record, err := capture.Read(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (record.State != capture.Complete || capture.IsSynced(dir)) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, capture.UploadedFile)); err == nil { // the bucket has it
		return nil
	}
	if e.Node.IsWhole(dir, record) {
		return e.sync(dir)
	}
	if record.Kept != nil {
		return nil
	}
	return e.fill(dir, record, interruptedByReboot)
}

var interruptedByReboot = capture.Failure{Reason: capture.ReasonInterrupted, Message: "the node went down before the state was on its disk"}

// isThisBoot tells whether the node has not gone down since a capture was begun. When that cannot be told, it has.
func (e *Engine) isThisBoot(record *capture.Capture) bool {
	boot, err := e.Node.BootID()
	return err == nil && record.BootID == boot
}

func (a *attempt) settleOne(ctx context.Context, dir string) error {
	var limits []limit
	if data, err := os.ReadFile(filepath.Join(dir, limitsFile)); err == nil && json.Unmarshal(data, &limits) == nil {
		if err := putBack(limits); err != nil {
			a.engine.Log("limits: %v", err)
		}
	}
	record, err := capture.Read(dir)
	if err == nil && record.State != capture.Dumped && record.State != capture.Complete {
		a.engine.unlink(dir)
	}
	switch {
	case err != nil && a.signal().Name == "": // a live one was cut off before anything was written, and may have frozen the pod
		return errors.Join(a.thaw(ctx), os.RemoveAll(dir))
	case err != nil: // it was cut off before anything was written
		return os.RemoveAll(dir)
	case record.State == capture.Dumped && record.Kept != nil && !a.engine.isThisBoot(record): // the volume has it, and the folder has holes
		record.State = capture.Complete
		if err := record.Write(dir); err != nil {
			return err
		}
		_, err := publish(dir, record.Sequence)
		return err
	case record.Trigger.IsLive() && record.State != capture.Complete:
		return a.settleLive(ctx, dir, record)
	case record.State == capture.Dumped && !a.engine.isThisBoot(record):
		return a.engine.giveUp(dir, record, interruptedByReboot)
	case record.State == capture.Complete: // all but its name was there
		_, err := publish(dir, record.Sequence)
		return errors.Join(err, a.payAll(ctx))
	case record.State == capture.Dumped && a.holds(dir):
		a.keepSettled(ctx, dir, record)
		a.engine.endProcesses(ctx, dir, a.members)
		return errors.Join(a.engine.complete(dir, record), a.payAll(ctx))
	case record.State == capture.Failed: // there may be hooks that are still to be run
		return a.settleFailed(ctx, dir, record, *record.Failure)
	case record.State == capture.Dumping && !a.hooks.has(capture.PostCheckpoint) && a.canBeginAgain(attemptsFile):
		a.engine.Log("beginning again")
		return os.RemoveAll(dir)
	}
	a.engine.unlink(dir)
	return a.settleFailed(ctx, dir, record, capture.Failure{
		Reason: capture.ReasonInterrupted, Message: "the capture was killed before it was done; the processes got their stop signal",
	})
}

// settleFailed lets the pod end of whose capture nothing has come, behind the hooks that are still to be run, and records why there is none.
func (a *attempt) settleFailed(ctx context.Context, dir string, record *capture.Capture, failure capture.Failure) error {
	err := a.thaw(ctx)
	a.unquiesce(ctx)
	record.Hooks = a.hooks.report.Runs
	err = errors.Join(err, a.payAll(ctx), a.engine.giveUp(dir, record, failure))
	a.closeHooks()
	return err
}

// canBeginAgain tells whether the processes are as they were before the attempt that was cut off: CRIU has let go of all of them, which it does
// when whoever called it is gone. It counts the attempts.
func (a *attempt) canBeginAgain(counter string) bool {
	if len(a.members) == 0 {
		return false
	}
	file := filepath.Join(a.engine.Node.Captures(a.podUID), counter)
	data, _ := os.ReadFile(file)
	if len(data) >= maxAttempts-1 || os.WriteFile(file, append(data, '.'), 0o600) != nil {
		return false
	}
	for end := time.Now().Add(endPatience); ; time.Sleep(5 * time.Millisecond) {
		if a.untraced() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func (a *attempt) untraced() bool {
	for _, m := range a.members {
		pids, err := m.group.processes()
		if err != nil {
			return false
		}
		for _, pid := range pids {
			if traced(pid) {
				return false
			}
		}
	}
	return true
}

// holds tells whether a dump is still true: none of its containers has run an instruction since. They got their KILL, or ended by it, or are
// held as they were.
func (a *attempt) holds(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, killedFile)); err == nil {
		return true
	}
	for _, m := range a.members {
		if frozen, err := m.group.frozen(); err != nil || !frozen {
			a.engine.Log("container %q of %s is not held", m.Name, dir)
			return false
		}
	}
	return true
}
