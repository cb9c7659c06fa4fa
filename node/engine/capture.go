package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/failpoint"
)

// How long a capture waits, and is waited for.
const (
	// evidencePatience is how long the pod stands still before it is clear that only one container is meant (design C1).
	evidencePatience = time.Second
	// killPatience is how long a KILL is held back (design C7).
	killPatience = 90 * time.Second
	// lockPatience is how long a signal's capture waits for the one before.
	lockPatience = 2 * time.Minute
	endPatience  = 10 * time.Second
	// bucketPatience is for how long the disk is left to the agent, which may have the state in the bucket before the disk has it.
	bucketPatience = 5 * time.Second
)

// Engine captures and restores pods on this node.
type Engine struct {
	Node capture.Node
	// Log gets a line for each step, for whoever looks for a cause later.
	Log func(format string, args ...any)
}

// Note records that a signal came for a container. A capture, or whoever finds it cut off, delivers it in the end.
func (e *Engine) Note(c *Container, signal string) error {
	return signalsOf(e.Node, c.Pod.UID).note(Signal{ContainerID: c.ID, Name: signal, Came: time.Now()})
}

// Owes tells whether a stop signal came for a container and was not delivered.
func (e *Engine) Owes(c *Container) bool {
	_, owed := signalsOf(e.Node, c.Pod.UID).stop(c.ID)
	return owed
}

// PodGoesOn is told that a container of a pod is made anew. A capture of the same pod is then not wanted: the signal meant the container alone.
func (e *Engine) PodGoesOn(c *Container) error {
	if err := e.Node.DropHint(c.Pod.UID, uncapturedHint); err != nil {
		return err
	}
	captures, err := filepath.Glob(filepath.Join(e.Node.Captures(c.Pod.UID), "[0-9]*"))
	if err != nil {
		return err
	}
	for _, dir := range captures {
		if record, err := capture.Read(dir); err != nil || record.State == capture.Failed || record.Trigger.IsLive() {
			continue
		}
		why := fmt.Sprintf("the pod went on: container %q was started anew\n", c.Name)
		if err := os.WriteFile(filepath.Join(dir, capture.DiscardedFile), []byte(why), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Capture answers the stop signals that were noted for a pod's containers. When they mean the whole pod, its selected containers are written
// into a new folder in capture.Node.Captures and their processes end; when they do not, or the capture fails, the signals are delivered. When
// another process is at it, it is waited for. The error is one of the node: a capture that failed is recorded in its folder and is no error.
func (e *Engine) Capture(ctx context.Context, podUID string) error {
	lock, err := lockPod(e.Node, podUID, lockPatience)
	if errors.Is(err, unix.EWOULDBLOCK) { // whoever is still at it pays
		return err
	}
	if err != nil {
		return errors.Join(err, e.deliver(ctx, podUID))
	}
	defer lock.release()
	return e.captureLocked(ctx, podUID)
}

// deliver gives the containers of a pod what is owed to them, when nothing can be captured: a signal is never lost.
func (e *Engine) deliver(ctx context.Context, podUID string) error {
	containers, err := containersOf(e.Node, podUID)
	for _, c := range containers {
		err = errors.Join(err, e.resume(ctx, c))
		err = errors.Join(err, e.pay(ctx, c))
	}
	return err
}

// captureLocked settles what was cut off and answers the signals that are still owed then. When it cannot, they are delivered.
func (e *Engine) captureLocked(ctx context.Context, podUID string) error {
	if err := e.answer(ctx, podUID); err != nil {
		return errors.Join(err, e.deliver(ctx, podUID))
	}
	return nil
}

// prepare returns what there is to capture of a pod, once nothing is restored in it any more and what was cut off is settled. done lets restores begin.
func (e *Engine) prepare(ctx context.Context, podUID string) (work *attempt, done func(), err error) {
	work, done = &attempt{engine: e, podUID: podUID, owed: signalsOf(e.Node, podUID), started: time.Now()}, func() {}
	if _, err := os.Stat(e.Node.Restores(podUID)); err == nil {
		restoring, err := lockRestore(e.Node, podUID, lockPatience)
		if err != nil {
			return nil, nil, err
		}
		done = restoring.release
		if err := e.putBackPod(podUID); err != nil { // a restore was killed
			e.Log("%v", err)
		}
	}
	if work.members, err = e.running(podUID); err == nil {
		work.openHooks()
		err = work.settle(ctx)
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	work.owed.retain(work.members)
	return work, done, nil
}

func (e *Engine) answer(ctx context.Context, podUID string) error {
	work, done, err := e.prepare(ctx, podUID)
	if err != nil {
		return err
	}
	defer done()
	if work.signal().Name == "" {
		work.endHooks(ctx)
		return work.payAll(ctx) // a KILL that came while somebody else was at work
	}
	if why, failed := e.Node.ReadHint(podUID, uncapturedHint); failed {
		e.Log("the pod is not captured any more, as that failed: %s", why)
		work.endHooks(ctx)
		return work.stop(ctx)
	}
	if why, paused := e.Node.ReadHint(podUID, capture.PausedHint); paused {
		e.Log("the pod is not captured: %s", why)
		work.endHooks(ctx)
		return work.stop(ctx)
	}
	return work.run(ctx)
}

// member is a selected container that runs.
type member struct {
	*Container
	pid   int
	group cgroup
}

// running returns the selected containers of a pod that run.
func (e *Engine) running(podUID string) ([]member, error) {
	containers, err := containersOf(e.Node, podUID)
	if err != nil {
		return nil, err
	}
	var members []member
	for _, c := range containers {
		pid, alive := c.pid()
		if !alive || !c.Selected() {
			continue
		}
		group, err := cgroupOf(pid)
		if err != nil || group.isRoot() {
			continue // it has ended
		}
		members = append(members, member{Container: c, pid: pid, group: group})
	}
	return members, nil
}

// attempt is one capture under way.
type attempt struct {
	engine  *Engine
	podUID  string
	members []member
	owed    signals
	started time.Time
	limits  []limit
	links   []link   // made for a restore
	execs   *podLock // held while nothing may be started in the pod by exec
	dir     string   // the partial folder, once it is there
	mu      sync.Mutex
	record  capture.Capture
	hooks   *book // what became of those that are run around the capture
	// letRestore lets containers of the pod be restored that end while it goes on; nil where they may be.
	letRestore func()
	// asks is what a capture of a pod that goes on is made for; nil when the pod goes.
	asks *capture.Asks
}

// run freezes the pod, finds out what the signals mean, and captures or delivers.
func (a *attempt) run(ctx context.Context) error {
	ctx, cancel := a.untilKillIsDue(ctx)
	defer cancel()
	if a.hasHooks() {
		if _, found := a.awaitEvidence(ctx); !found { // the pod goes on working meanwhile, as hooks cannot be run in one that is frozen
			return a.onlyOne(ctx)
		}
		if err := a.quiesce(ctx); err != nil {
			a.started = time.Now() // it was not frozen
			return a.fail(ctx, capture.ReasonHookFailed, err)
		}
	}
	place, goes := a.awaitTurn(ctx)
	defer place.release()
	if !goes {
		return a.onlyOne(ctx)
	}
	if a.owed.retain(a.members); len(a.members) == 0 {
		return nil
	}
	defer a.allowExecs()
	if err := a.freeze(ctx); err != nil {
		place.release() // what follows may take as long as a preStop hook does
		return a.fail(ctx, capture.ReasonFreezeFailed, err)
	}
	failpoint.Hit(failpoint.CaptureFrozen)
	evidence, found := a.awaitEvidence(ctx)
	if !found {
		place.release()
		return a.onlyOne(ctx)
	}
	reason, err := capture.ReasonFilesFailed, a.begin(evidence)
	if err == nil {
		failpoint.Hit(failpoint.CaptureBegun)
		reason, err = a.dumpInTries(ctx)
	}
	place.release() // the disk takes its time, and the next one need not wait for it
	if err != nil && errors.Is(context.Cause(ctx), errKillDue) {
		reason, err = capture.ReasonDeadlineExceeded, context.Cause(ctx)
	}
	if err != nil {
		return a.fail(ctx, reason, err)
	}
	return a.end(ctx)
}

// onlyOne delivers the signals of a pod that stays: they mean one container alone.
func (a *attempt) onlyOne(ctx context.Context) error {
	a.engine.Log("the signal means container %q alone: the others go on", a.signal().ContainerID)
	err := a.thaw(ctx)
	a.endHooks(ctx)
	return errors.Join(err, a.stop(ctx))
}

var errKillDue = fmt.Errorf("the pod's end was ordered %s ago, and the capture is not done", killPatience)

// untilKillIsDue returns a context that ends when a KILL has been held back for as long as it may.
func (a *attempt) untilKillIsDue(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	members := slices.Clone(a.members)
	go func() {
		for ctx.Err() == nil {
			for _, m := range members {
				if kill, came := a.owed.kill(m.ID); came && time.Since(kill.Came) > killPatience {
					cancel(errKillDue)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return ctx, func() { cancel(nil) }
}

// signal returns the first of the stop signals that came.
func (a *attempt) signal() Signal {
	var first Signal
	for _, m := range a.members {
		if signal, came := a.owed.stop(m.ID); came && (first.Name == "" || signal.Came.Before(first.Came)) {
			first = signal
		}
	}
	return first
}

// freeze holds all members at once, when nothing is on its way into them by exec.
func (a *attempt) freeze(ctx context.Context) error {
	execs, err := endExecs(a.engine.Node, a.podUID)
	if err != nil { // one that is on its way for so long hangs itself
		a.engine.Log("%v", err)
	}
	a.execs = execs
	return a.all(func(m member) error {
		if frozen, err := m.group.frozen(); err == nil && frozen {
			return nil
		}
		return m.OCI().Pause(ctx, m.ID)
	})
}

// allowExecs lets processes be started in the pod by exec again.
func (a *attempt) allowExecs() {
	if a.execs != nil {
		a.execs.release()
		a.execs = nil
	}
}

// thaw lets all members go on that are held.
func (a *attempt) thaw(ctx context.Context) error {
	defer a.allowExecs()
	if err := a.engine.endHold(ctx, a.podUID); err != nil {
		a.engine.Log("%v", err)
	}
	return a.all(func(m member) error {
		if frozen, err := m.group.frozen(); err == nil && !frozen {
			return nil
		}
		if _, alive := m.Container.pid(); !alive {
			return nil
		}
		return m.OCI().Resume(context.WithoutCancel(ctx), m.ID)
	})
}

func (a *attempt) all(work func(member) error) error {
	done := make(chan error, len(a.members))
	for _, m := range a.members {
		go func() { done <- work(m) }()
	}
	var all error
	for range a.members {
		all = errors.Join(all, <-done)
	}
	return all
}

// awaitEvidence waits for a sign that the signals mean the whole pod.
func (a *attempt) awaitEvidence(ctx context.Context) (capture.Evidence, bool) {
	for end := time.Now().Add(evidencePatience); ; time.Sleep(2 * time.Millisecond) {
		if evidence, found := a.evidence(); found {
			return evidence, true
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return "", false
		}
	}
}

// evidence looks for a sign that the signals mean the whole pod.
func (a *attempt) evidence() (capture.Evidence, bool) {
	if len(a.members) == 1 {
		return capture.OnlyContainer, true
	}
	if _, deleting := a.engine.Node.ReadHint(a.podUID, capture.DeletingHint); deleting {
		return capture.Deleting, true
	}
	for _, m := range a.members {
		if _, came := a.owed.stop(m.ID); !came && !slices.Contains(m.Settings.Sidecars, m.Name) { // kubelet stops sidecars after the others
			return "", false
		}
	}
	return capture.AllSignalled, true
}

// begin makes the partial folder, from which on the agent sees the capture.
func (a *attempt) begin(evidence capture.Evidence) error {
	sequence, err := nextSequence(a.engine.Node.Captures(a.podUID))
	if err != nil {
		return err
	}
	dir := filepath.Join(a.engine.Node.Captures(a.podUID), fmt.Sprintf("%d.partial", sequence))
	first := a.members[0]
	boot, err := a.engine.Node.BootID()
	if err != nil {
		return err
	}
	facts, err := compat.Read(a.engine.Node.Root)
	if err != nil {
		return err
	}
	a.record = capture.Capture{
		BootID: boot, Facts: facts, State: capture.Dumping, Pod: first.Pod, Sequence: sequence, Settings: first.Settings, Started: a.started.UTC(),
		Hooks: a.hooks.report.Runs,
	}
	if a.record.Trigger.Asks = a.asks; a.asks == nil {
		a.record.Trigger = capture.Trigger{Signal: a.signal().String(), Evidence: evidence}
	}
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		return err
	}
	a.dir = dir
	a.limits = first.group.parent().limits()
	for _, m := range a.members {
		a.limits = append(a.limits, m.group.limits()...)
	}
	if err := capture.WriteJSON(filepath.Join(dir, limitsFile), a.limits); err != nil {
		return err
	}
	return a.record.Write(dir)
}

func (a *attempt) payAll(ctx context.Context) error {
	var all error
	for _, m := range a.members {
		all = errors.Join(all, a.engine.pay(context.WithoutCancel(ctx), m.Container))
	}
	return all
}
