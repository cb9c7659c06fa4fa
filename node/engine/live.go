package engine

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// CaptureLive writes the state of a pod that goes on into a new folder in capture.Node.Captures, for the Checkpoint that asks for it. The pod stands still
// meanwhile. When its stop signal comes before it goes on, it does not: what was written is its last state then, as if the signal had come first. A
// capture that failed is recorded in its folder and is no error; that the pod is being captured already, or that nothing of it runs, is one.
func (e *Engine) CaptureLive(ctx context.Context, podUID string, asks capture.Asks) error {
	after, err := e.lockHooks(podUID, lockPatience)
	if err != nil {
		return err
	}
	defer after.release()
	lock, err := lockPod(e.Node, podUID, 0)
	if err != nil {
		return err
	}
	defer lock.release()
	work, done, err := e.prepare(ctx, podUID)
	if err != nil {
		return err
	}
	defer done()
	switch {
	case work.signal().Name != "": // whoever noted it waits for the lock, and captures
		return errors.New("the pod is being stopped")
	case len(work.members) == 0:
		return errors.New("none of the pod's selected containers runs")
	}
	work.asks, work.letRestore = &asks, done
	return work.runLive(ctx)
}

// runLive freezes the pod, writes its state, and lets it go on. While it is not frozen its containers may end, and be restored: hooks and volumes take long.
func (a *attempt) runLive(ctx context.Context) error {
	ctx, cancel := a.untilKillIsDue(ctx)
	defer cancel()
	if reason, err := a.beginWithHooks(ctx); err != nil {
		return a.failLive(ctx, reason, err)
	}
	defer func() { a.letRestore() }()
	place := turnsOf(a.engine.Node, "capture").await(a.engine.Log, func() bool { return ctx.Err() == nil && a.signal().Name == "" })
	defer place.release()
	if a.signal().Name != "" { // it is captured for good, and the hooks that were run are that capture's
		return a.leave()
	}
	a.started = time.Now()
	if a.owed.retain(a.members); len(a.members) == 0 {
		return nil
	}
	defer a.allowExecs()
	reason, err := capture.ReasonFilesFailed, error(nil)
	if a.record.Started = a.started.UTC(); a.dir == "" {
		err = a.begin("") // before the freeze: whoever finds the folder knows that there may be something to thaw
	}
	if err == nil {
		reason, err = capture.ReasonFreezeFailed, a.freeze(ctx)
	}
	if err == nil {
		reason, err = a.dumpInTries(ctx)
	}
	place.release()
	if err != nil {
		return a.failLive(ctx, reason, err)
	}
	if a.record.Trigger.IsTermination() {
		return a.end(ctx)
	}
	a.letRestore()
	a.unquiesce(ctx)
	if err := a.record.Write(a.dir); err != nil { // from here on what became of hooks is known by the folder
		a.engine.Log("%v", err)
	}
	a.closeHooks()
	ctx, enough := a.untilStopped(ctx)
	defer enough()
	a.engine.keepInVolume(ctx, a.dir, &a.record)
	return a.engine.complete(a.dir, &a.record)
}

// beginWithHooks makes the folder and runs the hooks that stand before the freeze, if there are hooks: whoever finds it runs those that stand behind.
func (a *attempt) beginWithHooks(ctx context.Context) (capture.Reason, error) {
	if !a.hasHooks() {
		return "", nil
	}
	if err := a.begin(""); err != nil {
		return capture.ReasonFilesFailed, err
	}
	a.letRestore()
	err := a.quiesce(ctx)
	if err != nil {
		a.started = time.Now() // it was not frozen
		return capture.ReasonHookFailed, err
	}
	restoring, err := lockRestore(a.engine.Node, a.podUID, lockPatience)
	if err != nil {
		return capture.ReasonFreezeFailed, err
	}
	a.letRestore = restoring.release
	return "", nil
}

// leave removes the folder, if there is one, of a capture that is not made.
func (a *attempt) leave() error {
	if a.dir == "" {
		return nil
	}
	return os.RemoveAll(a.dir)
}

// untilStopped returns a context that ends when the pod is stopped: its last state is worth more than one from before.
func (a *attempt) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for ctx.Err() == nil {
			if a.signal().Name != "" {
				cancel(errors.New("the pod is stopped, and its last state comes after this one"))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return ctx, func() { cancel(nil) }
}

// goOn records that everything is there, and lets the pod go on; or ends it, when it was stopped meanwhile.
func (a *attempt) goOn(ctx context.Context) (capture.Reason, error) {
	if signal := a.signal(); signal.Name != "" {
		if evidence, found := a.evidence(); found {
			a.engine.Log("the pod is stopped while its state is captured: this is its last one")
			a.record.Trigger.Signal, a.record.Trigger.Evidence = signal.String(), evidence
			return capture.ReasonFilesFailed, a.recordDump()
		}
	}
	if err := a.recordDump(); err != nil {
		return capture.ReasonFilesFailed, err
	}
	return capture.ReasonFreezeFailed, a.letGoOn(ctx)
}

// letGoOn takes back what a capture has changed of a pod, and thaws it.
func (a *attempt) letGoOn(ctx context.Context) error {
	a.takeBack()
	return errors.Join(putBack(a.limits), a.thaw(context.WithoutCancel(ctx)))
}

// failLive lets the pod go on and records why there is no capture. When it was stopped meanwhile, whoever noted that captures it next.
func (a *attempt) failLive(ctx context.Context, reason capture.Reason, cause error) error {
	a.engine.Log("failed (%s): %v", reason, cause)
	err := a.letGoOn(ctx)
	if a.dir == "" {
		a.unquiesce(ctx)
		a.closeHooks()
		return errors.Join(err, cause)
	}
	failure := capture.Failure{Reason: reason, Message: cause.Error()}
	if a.record.Failure != nil {
		failure.Errors, failure.LogTail = a.record.Failure.Errors, a.record.Failure.LogTail
	}
	a.record.Timings.Frozen = time.Since(a.started)
	return errors.Join(err, a.giveUp(ctx, failure))
}

// settleLive deals with the folder of a live capture that was cut off: what is whole is kept, and the pod goes on in any case.
func (a *attempt) settleLive(ctx context.Context, dir string, record *capture.Capture) error {
	a.engine.unlink(dir)
	err := a.thaw(ctx)
	isClosed := len(record.Hooks) > 0 && len(a.hooks.report.Runs) == 0
	if !isClosed && (a.signal().Name == "" || a.hooks.has(capture.PostCheckpoint)) { // else those that were run are of the capture that follows
		a.asks = record.Trigger.Asks
		a.unquiesce(ctx)
		a.asks = nil // a signal may have come meanwhile, and its capture follows
		defer a.closeHooks()
	}
	if !isClosed {
		record.Hooks = a.hooks.report.Runs
	}
	switch {
	case record.State == capture.Failed:
		return errors.Join(err, a.engine.giveUp(dir, record, *record.Failure))
	case record.State == capture.Dumped && a.engine.isThisBoot(record):
		ctx, cancel := a.untilKillIsDue(ctx)
		defer cancel()
		ctx, enough := a.untilStopped(ctx)
		defer enough()
		a.keepSettled(ctx, dir, record)
		return errors.Join(err, a.engine.complete(dir, record))
	case record.State == capture.Dumping && a.canBeginAgain(liveAttemptsFile): // whoever asked for it asks again
		return errors.Join(err, os.RemoveAll(dir))
	}
	return errors.Join(err, a.engine.giveUp(dir, record, capture.Failure{
		Reason: capture.ReasonInterrupted, Message: "the capture was killed before it was done; the pod went on",
	}))
}
