package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

const (
	// hooksInterval is how often it is looked whether hooks can be run.
	hooksInterval = 50 * time.Millisecond
	// hooksPatience is for how long hooks of a restored pod are waited for that somebody else runs: longer than all of them may take.
	hooksPatience = 90 * time.Minute
)

// errStopped is why hooks are not run any more in a restored pod.
var errStopped = errors.New("the pod is stopped")

// planHooks writes down what is run in the restored containers of the pod: the hooks that stand behind the capture, as it was made with them, and those that
// the decision has. They are the same for all of its containers.
func (r *restoration) planHooks() error {
	record, err := capture.Read(r.Directory)
	if err != nil {
		return err
	}
	plan := capture.HookPlan{SchemaVersion: capture.SchemaVersion, PostCheckpoint: record.Settings.PostCheckpoint}
	if d, err := r.engine.Node.Decision(r.Container.Pod.UID); err == nil {
		plan.PostRestore = d.PostRestore
	}
	if plan.IsEmpty() {
		return nil
	}
	return capture.NoteJSON(r.engine.Node.HookPlanFile(r.Container.Pod.UID), plan)
}

// HasHooks tells whether hooks are to be run in the restored containers of a pod.
func (e *Engine) HasHooks(podUID string) bool {
	plan, err := e.Node.HookPlan(podUID)
	return err == nil && !plan.IsEmpty()
}

// AfterRestore returns when no container of the pod is held any more and the hooks that stand behind its restore have been run. When containers do not come
// in time, it lets the others go on.
func (e *Engine) AfterRestore(ctx context.Context, podUID string) error {
	if err := e.AwaitCompanions(ctx, podUID); err != nil || !e.HasHooks(podUID) {
		return err
	}
	lock, err := e.lockHooks(podUID, hooksPatience)
	if err != nil {
		return err
	}
	defer lock.release()
	e.awaitAll(ctx, podUID)
	for ctx.Err() == nil {
		again, err := e.runRestoreHooks(ctx, podUID)
		if err != nil || !again {
			return err
		}
	}
	return ctx.Err()
}

// lockHooks waits for whoever runs the hooks of a restored pod; there is no lock for one that nothing was decided for.
func (e *Engine) lockHooks(podUID string, patience time.Duration) (*podLock, error) {
	if _, err := os.Stat(e.Node.Restores(podUID)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	lock, err := lockFile(e.Node.HookLock(podUID), patience)
	if err != nil {
		return nil, fmt.Errorf("hooks are run in the restored pod: %w", err)
	}
	return lock, nil
}

// awaitAll waits until something became of each container that is restored, and none is held: hooks may speak to other containers.
func (e *Engine) awaitAll(ctx context.Context, podUID string) {
	for end := time.Now().Add(togetherPatience); ctx.Err() == nil && time.Now().Before(end); time.Sleep(hooksInterval) {
		d, err := e.Node.Decision(podUID)
		if err != nil || !e.holds(podUID) && !slices.ContainsFunc(d.Containers, func(name string) bool {
			r, err := e.Node.Result(podUID, name)
			return err != nil || r.Outcome == capture.Attempted
		}) {
			return
		}
	}
}

// runRestoreHooks runs the hooks in those restored containers in which they have not been run, and tells whether there were some: meanwhile others may have
// been restored, or one again.
func (e *Engine) runRestoreHooks(ctx context.Context, podUID string) (again bool, err error) {
	d, err := e.Node.Decision(podUID)
	if err != nil {
		return false, err
	}
	plan, err := e.Node.HookPlan(podUID)
	if err != nil {
		return false, err
	}
	b := e.openBook(e.Node.RestoreHooksFile(podUID))
	done := slices.Clone(b.report.Done)
	var containers []*Container
	for _, name := range d.Containers {
		r, err := e.Node.Result(podUID, name)
		if err != nil || r.Outcome != capture.Restored || slices.Contains(done, r.ContainerID) {
			continue
		}
		done = append(done, r.ContainerID)
		again = true
		if c, err := Recall(e.Node, r.ContainerID); err == nil { // else it is gone
			containers = append(containers, c)
		}
	}
	if !again {
		return false, nil
	}
	defer func() {
		b.report.Done = done
		b.write()
	}()
	ctx, cancel := e.untilStopped(ctx, podUID, containers)
	defer cancel()
	for _, phase := range []struct {
		name  capture.HookPhase
		hooks []capture.Command
	}{{capture.PostCheckpoint, plan.PostCheckpoint}, {capture.PostRestore, plan.PostRestore}} {
		if err := b.run(ctx, phase.name, phase.hooks, containers); err != nil {
			e.Log("%v", err)
		}
	}
	return true, nil
}

// untilStopped returns a context that ends when all of the pod is stopped: the capture that follows has hooks of its own, and what it captures is restored
// with those that stand behind it. That one container of several is stopped is no reason for the others to go on without their hooks.
func (e *Engine) untilStopped(ctx context.Context, podUID string, containers []*Container) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	owed := signalsOf(e.Node, podUID)
	go func() {
		for ctx.Err() == nil {
			stopped := 0
			for _, c := range containers {
				if _, came := owed.stop(c.ID); came {
					stopped++
				}
			}
			_, goes := e.Node.ReadHint(podUID, capture.DeletingHint)
			if stopped > 0 && (stopped == len(containers) || goes) {
				cancel(errStopped)
			}
			time.Sleep(killInterval)
		}
	}()
	return ctx, func() { cancel(nil) }
}
