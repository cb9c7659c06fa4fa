package engine

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// The part of a pod's grace period, from its stop signal on, that hooks may take: as a divisor.
const (
	preShare  = 2 // before its last capture
	postShare = 4 // behind a live one, so that there is time for the last
)

// hookInterrupted is why a hook failed that whoever ran it began and did not see end.
const hookInterrupted = "it was begun, and then the runtime of the node was killed; it is not run again"

// book is what became of hooks, in a file. A hook that has its turn is in it before it begins, so that it is not begun twice, whoever is killed. A disk that
// does not take that keeps no hook from being run.
type book struct {
	path   string
	log    func(string, ...any)
	report capture.HookReport
}

// openBook reads a book that nobody else writes. One that cannot be read is as if nothing had been run.
func (e *Engine) openBook(path string) *book {
	report, err := capture.ReadHookReport(path)
	if err != nil {
		e.Log("what became of hooks is not known: %v", err)
	}
	for i := range report.Runs {
		if r := &report.Runs[i]; r.State == capture.HookBegun {
			r.State, r.Message = capture.HookFailed, hookInterrupted
		}
	}
	return &book{path, e.Log, report}
}

func (b *book) write() {
	if err := b.report.Write(b.path); err != nil {
		b.log("what became of hooks is not noted: %v", err)
	}
}

// find returns what became of a hook in a container; nil when it had no turn.
func (b *book) find(phase capture.HookPhase, number int, containerID string) *capture.HookRun {
	for i := range b.report.Runs {
		if r := &b.report.Runs[i]; r.Phase == phase && r.Number == number && r.ContainerID == containerID {
			return r
		}
	}
	return nil
}

// has tells whether hooks of a phase had their turn.
func (b *book) has(phase capture.HookPhase) bool {
	return slices.ContainsFunc(b.report.Runs, func(r capture.HookRun) bool { return r.Phase == phase })
}

// run runs the hooks of a phase, one after the other, each in one of the containers after the other. Those that had their turn are not run again. The error
// is of a hook that breaks the rest off.
func (b *book) run(ctx context.Context, phase capture.HookPhase, hooks []capture.Command, containers []*Container) error {
	for i, hook := range hooks {
		for _, c := range containers {
			if hook.Container != "" && hook.Container != c.Name {
				continue
			}
			run := b.turn(ctx, phase, i+1, hook, c)
			b.log("ran %s, in %s", run, run.Took.Round(time.Millisecond))
			if run.State == capture.HookFailed && hook.Breaks {
				return errors.New(run.String())
			}
		}
	}
	return nil
}

// turn runs a hook in a container, unless it had its turn before.
func (b *book) turn(ctx context.Context, phase capture.HookPhase, number int, hook capture.Command, c *Container) capture.HookRun {
	if known := b.find(phase, number, c.ID); known != nil {
		return *known
	}
	b.report.Runs = append(b.report.Runs, capture.HookRun{
		Phase: phase, Container: c.Name, ContainerID: c.ID, Number: number, State: capture.HookBegun,
	})
	b.write()
	run, began := &b.report.Runs[len(b.report.Runs)-1], time.Now()
	err := context.Cause(ctx)
	if err == nil {
		err = c.execute(ctx, hook)
	}
	run.State, run.Took = capture.HookSucceeded, time.Since(began)
	if err != nil {
		run.State, run.Message = capture.HookFailed, err.Error()
	}
	b.write()
	return *run
}

// hasHooks tells whether the pod has hooks that are run around its captures.
func (a *attempt) hasHooks() bool {
	return len(a.members) > 0 && len(a.members[0].Settings.PreCheckpoint)+len(a.members[0].Settings.PostCheckpoint) > 0
}

// openHooks reads what became of the hooks of a capture that was cut off; of containers that are there no more nothing counts.
func (a *attempt) openHooks() {
	a.hooks = a.engine.openBook(a.engine.Node.CaptureHooksFile(a.podUID))
	a.hooks.report.Runs = slices.DeleteFunc(a.hooks.report.Runs, func(r capture.HookRun) bool {
		return !slices.ContainsFunc(a.members, func(m member) bool { return m.ID == r.ContainerID })
	})
}

// quiesce runs the hooks that stand before the freeze. When the pod is stopped they may take a part of its grace period; what is left of it is the capture's.
// The error is why there is to be no capture.
func (a *attempt) quiesce(ctx context.Context) error {
	if !a.hasHooks() {
		return nil
	}
	ctx, cancel := a.hookTime(ctx, func(s Signal, grace time.Duration) (time.Time, string) {
		return s.Came.Add(grace / preShare), "the pod is stopped, and half of its grace period was over, which is all that hooks may take"
	})
	defer cancel()
	return a.runHooksOf(ctx, capture.PreCheckpoint, a.members[0].Settings.PreCheckpoint)
}

// unquiesce runs the hooks that stand behind a capture whose containers go on. It never fails: the pod goes on, or ends, in any case.
func (a *attempt) unquiesce(ctx context.Context) {
	if !a.hasHooks() {
		return
	}
	ctx, cancel := a.hookTime(context.WithoutCancel(ctx), func(s Signal, grace time.Duration) (time.Time, string) {
		if a.asks != nil {
			return s.Came.Add(grace / postShare), "the pod is stopped, and hooks have taken a quarter of its grace period"
		}
		return s.Came.Add(grace - lastMoments), "the pod's grace period was over"
	})
	defer cancel()
	if err := a.runHooksOf(ctx, capture.PostCheckpoint, a.members[0].Settings.PostCheckpoint); err != nil {
		a.engine.Log("%v", err)
	}
}

// runHooksOf runs the hooks of a phase in the members that are left, and records what became of them.
func (a *attempt) runHooksOf(ctx context.Context, phase capture.HookPhase, hooks []capture.Command) error {
	var containers []*Container
	for _, m := range a.members {
		if _, alive := m.Container.pid(); alive {
			containers = append(containers, m.Container)
		}
	}
	err := a.hooks.run(ctx, phase, hooks, containers)
	a.record.Hooks = a.hooks.report.Runs
	return err
}

// endHooks runs the hooks that stand behind a capture that is not made after all, if those that stand before it were run.
func (a *attempt) endHooks(ctx context.Context) {
	if a.hooks.has(capture.PreCheckpoint) {
		a.unquiesce(ctx)
		a.closeHooks()
	}
}

// closeHooks forgets what became of the hooks of a capture that is over: the next one has hooks of its own.
func (a *attempt) closeHooks() {
	if err := removeFile(a.hooks.path); err != nil {
		a.engine.Log("%v", err)
	}
	a.hooks.report = capture.HookReport{}
}

// hookTime returns a context for hooks. It ends when the pod's end is ordered, or at the time that until says once it has a stop signal, with the cause.
func (a *attempt) hookTime(ctx context.Context, until func(Signal, time.Duration) (time.Time, string)) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	members := slices.Clone(a.members)
	grace := time.Duration(members[0].Settings.GracePeriodSeconds) * time.Second
	look := func() {
		for _, m := range members {
			if _, came := a.owed.kill(m.ID); came {
				cancel(errors.New("the end of the pod was ordered"))
			}
			if signal, came := a.owed.stop(m.ID); came {
				if end, why := until(signal, grace); time.Now().After(end) {
					cancel(errors.New(why))
				}
			}
		}
	}
	look() // it may be over before the first begins
	go func() {
		for ctx.Err() == nil {
			time.Sleep(killInterval)
			look()
		}
	}()
	return ctx, func() { cancel(os.ErrProcessDone) }
}
