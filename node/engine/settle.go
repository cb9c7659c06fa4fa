package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// Settle finishes what a capture left that was killed: a dumped one is completed, another one given up, and the signals that it owed
// are delivered. It does nothing while somebody captures the pod.
func (e *Engine) Settle(ctx context.Context, podUID string) error {
	if _, err := os.Stat(e.Node.Captures(podUID)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockPod(e.Node, podUID, 0)
	if err != nil {
		return nil // somebody is at it
	}
	defer lock.release()
	return e.settle(ctx, podUID)
}

// settle does that under the lock of the pod.
func (e *Engine) settle(ctx context.Context, podUID string) error {
	partials, err := filepath.Glob(filepath.Join(e.Node.Captures(podUID), "*.partial"))
	if err != nil || len(partials) == 0 {
		return err
	}
	members, err := e.running(podUID)
	if err != nil {
		return err
	}
	work := &attempt{engine: e, podUID: podUID, members: members, owed: signalsOf(e.Node, podUID)}
	var all error
	for _, dir := range partials {
		e.Log("settling %s, which was cut off", dir)
		all = errors.Join(all, work.settle(ctx, dir))
	}
	return all
}

func (a *attempt) settle(ctx context.Context, dir string) error {
	var limits []limit
	if data, err := os.ReadFile(filepath.Join(dir, limitsFile)); err == nil && json.Unmarshal(data, &limits) == nil {
		if err := putBack(limits); err != nil {
			a.engine.Log("limits: %v", err)
		}
	}
	record, err := capture.Read(dir)
	if err != nil { // it was cut off before anything was written
		return errors.Join(a.thaw(ctx), a.payAll(ctx), os.RemoveAll(dir))
	}
	if record.State == capture.Complete { // all but its name was there
		return errors.Join(publish(dir, record.Sequence), a.payAll(ctx))
	}
	if record.State == capture.Dumped && a.holds(dir) {
		a.engine.endProcesses(ctx, dir, a.members)
		return errors.Join(a.engine.complete(dir, record), a.payAll(ctx))
	}
	if record.State == capture.Failed {
		return errors.Join(a.thaw(ctx), a.payAll(ctx), a.engine.giveUp(dir, record, *record.Failure))
	}
	err = errors.Join(a.thaw(ctx), a.payAll(ctx))
	return errors.Join(err, a.engine.giveUp(dir, record, capture.Failure{
		Reason: capture.ReasonInterrupted, Message: "the capture was killed before it was done; the processes got their stop signal",
	}))
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
