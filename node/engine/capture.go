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
	"github.com/transparent-checkpoint/operator/internal/criu"
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
		if record, err := capture.Read(dir); err != nil || record.State == capture.Failed {
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

func (e *Engine) answer(ctx context.Context, podUID string) error {
	work := &attempt{engine: e, podUID: podUID, owed: signalsOf(e.Node, podUID), started: time.Now()}
	if _, err := os.Stat(e.Node.Restores(podUID)); err == nil {
		restoring, err := lockRestore(e.Node, podUID, lockPatience)
		if err != nil {
			return err
		}
		defer restoring.release()
		if err := e.putBackPod(podUID); err != nil { // a restore was killed
			e.Log("%v", err)
		}
	}
	var err error
	if work.members, err = e.running(podUID); err != nil {
		return err
	}
	if err := work.settle(ctx); err != nil {
		return err
	}
	work.owed.retain(work.members)
	if work.signal().Name == "" {
		return work.payAll(ctx) // a KILL that came while somebody else was at work
	}
	if why, failed := e.Node.ReadHint(podUID, uncapturedHint); failed {
		e.Log("the pod is not captured any more, as that failed: %s", why)
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
}

// run freezes the pod, finds out what the signals mean, and captures or delivers.
func (a *attempt) run(ctx context.Context) error {
	ctx, cancel := a.untilKillIsDue(ctx)
	defer cancel()
	place, goes := a.awaitTurn(ctx)
	defer place.release()
	if !goes {
		return a.onlyOne(ctx)
	}
	if a.owed.retain(a.members); len(a.members) == 0 {
		return nil
	}
	execs, err := endExecs(a.engine.Node, a.podUID)
	if err != nil { // one that is on its way for so long hangs itself
		a.engine.Log("%v", err)
	}
	a.execs = execs
	defer a.allowExecs()
	if err := a.freeze(ctx); err != nil {
		place.release() // what follows may take as long as a preStop hook does
		return a.fail(ctx, capture.ReasonFreezeFailed, err)
	}
	evidence, found := a.awaitEvidence(ctx)
	if !found {
		place.release()
		return a.onlyOne(ctx)
	}
	reason, err := capture.ReasonFilesFailed, a.begin(evidence)
	if err == nil {
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
	return errors.Join(a.thaw(ctx), a.stop(ctx))
}

var errKillDue = fmt.Errorf("the pod's end was ordered %s ago, and the capture is not done", killPatience)

// dumpInTries dumps, and again after a moment when something was in transit that passes.
func (a *attempt) dumpInTries(ctx context.Context) (capture.Reason, error) {
	reason, err := a.dump(ctx)
	for try := 1; inTransit(err) && try < transitTries && ctx.Err() == nil; try++ {
		a.engine.Log("try %d: %v", try, err)
		if reason, err = capture.ReasonFreezeFailed, a.goOnFor(ctx, transitPause); err == nil {
			reason, err = a.dump(ctx)
		}
	}
	return reason, err
}

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

// freeze holds all members at once.
func (a *attempt) freeze(ctx context.Context) error {
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
		Trigger: capture.Trigger{Signal: a.signal().String(), Evidence: evidence},
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

// dump writes everything while nothing of the members runs, and then ends them.
func (a *attempt) dump(ctx context.Context) (capture.Reason, error) {
	if reason, err := a.checkSpace(); err != nil {
		return reason, err
	}
	if err := a.clearStrangers(ctx); err != nil {
		return capture.ReasonFreezeFailed, err
	}
	if network := a.members[0].Network; network != "" {
		cut, err := cutConnections(network, severance{keepOutside: a.record.Settings.TCPEstablished, captured: a.sockets})
		if err != nil {
			return capture.ReasonDumpFailed, fmt.Errorf("cut connections to what is not captured: %w", err)
		}
		a.engine.Log("cut %d connections", cut)
	}
	if err := lift(a.limits); err != nil {
		a.engine.Log("limits stay: %v", err)
	}
	before := time.Now()
	if err := a.all(func(m member) error { return a.dumpContainer(ctx, m) }); err != nil {
		return capture.ReasonDumpFailed, err
	}
	for _, m := range a.members {
		a.recordContainer(m)
	}
	if err := a.carry(); err != nil {
		return capture.ReasonFilesFailed, err
	}
	a.record.Timings.Dump = time.Since(before)
	before = time.Now()
	if err := a.copyFiles(ctx); err != nil {
		return capture.ReasonFilesFailed, err
	}
	a.record.Timings.Files = time.Since(before)
	for _, m := range a.members {
		if frozen, err := m.group.frozen(); err != nil || !frozen {
			return capture.ReasonFreezeFailed, errors.Join(fmt.Errorf("container %q was not held until the end of the copy", m.Name), err)
		}
	}
	return a.cut(ctx)
}

// sockets are the inodes of the sockets that the members hold.
func (a *attempt) sockets() map[uint32]bool {
	found := map[uint32]bool{}
	for _, m := range a.members {
		pids, err := m.group.processes()
		if err != nil {
			a.engine.Log("sockets of container %q: %v", m.Name, err)
		}
		for _, pid := range pids {
			process{pid: pid}.sockets(found)
		}
	}
	return found
}

// dumpContainer has CRIU write a container, beside others of the pod. CRIU thaws it while it holds its tasks itself, and the freezer must hold them again
// after.
func (a *attempt) dumpContainer(ctx context.Context, m member) error {
	images, work := filepath.Join(a.dir, "containers", m.Name, "criu"), filepath.Join(a.dir, "log", m.Name)
	if err := errors.Join(os.MkdirAll(images, 0o700), os.MkdirAll(work, 0o700)); err != nil {
		return err
	}
	if err := a.callCRIU(ctx, m, images, work); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.record.Failure = &capture.Failure{Errors: criuLines(err), LogTail: tailOf(filepath.Join(work, criu.DumpLog), 4096)}
		return fmt.Errorf("container %q: %w", m.Name, err)
	}
	if err := m.group.awaitFrozen(endPatience); err != nil {
		return fmt.Errorf("container %q went on after its dump: %w", m.Name, err)
	}
	return nil
}

// recordContainer adds a dumped container to the record.
func (a *attempt) recordContainer(m member) {
	security, err := m.security()
	if err != nil { // it cannot be restored without, which is found out by then; the processes end in any case
		a.engine.Log("container %q: what it was allowed is not known: %v", m.Name, err)
	}
	a.record.Containers = append(a.record.Containers, capture.Container{
		Name: m.Name, ID: m.ID, Image: m.Image, SpecDigest: m.SpecDigest, Security: security,
	})
}

// cut records that everything is there and ends the processes: held as they are, none runs another instruction.
func (a *attempt) cut(ctx context.Context) (capture.Reason, error) {
	a.record.State = capture.Dumped
	a.record.Timings.Frozen = time.Since(a.started)
	size, err := sizeOf(a.dir)
	if err != nil {
		return capture.ReasonFilesFailed, err
	}
	a.record.SizeBytes = size
	if err := a.record.Write(a.dir); err != nil {
		return capture.ReasonFilesFailed, err
	}
	a.engine.endProcesses(ctx, a.dir, a.members)
	return "", nil
}

// killedFile lies in a folder whose processes have got their KILL: from then on they cannot run another instruction, held or not.
const killedFile = "killed"

// endProcesses kills what the freezer holds, and thaws it then.
func (e *Engine) endProcesses(ctx context.Context, dir string, members []member) {
	ctx = context.WithoutCancel(ctx)
	for _, m := range members {
		if m.Settings.TCPEstablished && m.Network != "" { // the peers must not learn of the end
			if err := silenceOutside(m.Network); err != nil {
				e.Log("%v", err)
			}
			break
		}
	}
	for _, m := range members {
		if err := m.group.kill(); err != nil {
			e.Log("container %q: %v", m.Name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, killedFile), nil, 0o600); err != nil {
		e.Log("%v", err)
	}
	for _, m := range members {
		if err := m.OCI().Kill(ctx, m.ID, "KILL"); err != nil { // which thaws it
			e.Log("container %q: %v", m.Name, err)
		}
		if frozen, err := m.group.frozen(); err == nil && frozen {
			if err := m.OCI().Resume(ctx, m.ID); err != nil {
				e.Log("container %q: %v", m.Name, err)
			}
		}
	}
}

// end gives the capture its final name and puts it on the disk.
func (a *attempt) end(ctx context.Context) error {
	if err := putBack(a.limits); err != nil {
		a.engine.Log("limits: %v", err)
	}
	err := a.engine.complete(a.dir, &a.record)
	for _, m := range a.members {
		if err := m.awaitEnd(endPatience); err != nil {
			a.engine.Log("%v", err)
		}
	}
	return errors.Join(err, a.payAll(ctx)) // nobody is left to get anything: what was owed is dropped
}

// complete gives a dumped capture its final name, and then waits for the disk to have it: the agent need not wait for that.
func (e *Engine) complete(dir string, record *capture.Capture) error {
	for _, name := range []string{limitsFile, killedFile, linksFile} {
		_ = os.Remove(filepath.Join(dir, name))
	}
	_ = capture.Unreserve(dir)
	record.State, record.Timings.Total = capture.Complete, time.Since(record.Started)
	if err := record.Write(dir); err != nil {
		return err
	}
	e.Log("complete after %s: frozen %s, dump %s, files %s", record.Timings.Total, record.Timings.Frozen, record.Timings.Dump, record.Timings.Files)
	final, err := publish(dir, record.Sequence)
	if err != nil {
		return err
	}
	e.awaitBucket(final)
	return e.sync(final)
}

// awaitBucket waits while a live agent uploads a capture, within bounds: durable soonest wins (design C9), and writing the state to two places at
// once makes both late.
func (e *Engine) awaitBucket(dir string) {
	for end := time.Now().Add(bucketPatience); time.Now().Before(end) && e.Node.AgentLives(); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, capture.UploadedFile)); err == nil {
			return
		}
		if _, err := os.Stat(dir); err != nil { // it was not wanted
			return
		}
	}
}

// sync has a complete capture on the disk when it returns, and says so in its folder. When the agent has dropped it meanwhile there is nothing
// to do.
func (e *Engine) sync(dir string) error {
	before := time.Now()
	err := syncTree(dir)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, capture.SyncedFile), nil, 0o600)
	}
	if err == nil {
		err = syncFile(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write capture %s to the disk: %w", dir, err)
	}
	e.Log("on the disk after another %s", time.Since(before))
	return nil
}

// fail thaws the pod, records why there is no capture, and lets the pod end as if none had been tried.
func (a *attempt) fail(ctx context.Context, reason capture.Reason, cause error) error {
	ctx = context.WithoutCancel(ctx)
	a.engine.Log("failed (%s): %v", reason, cause)
	a.takeBack()
	err := errors.Join(putBack(a.limits), a.thaw(ctx)) // nothing may run without its limits
	if a.dir == "" {
		if beginErr := a.begin(""); beginErr != nil {
			return errors.Join(err, a.stop(ctx), beginErr)
		}
	}
	failure := capture.Failure{Reason: reason, Message: cause.Error()}
	if a.record.Failure != nil {
		failure.Errors, failure.LogTail = a.record.Failure.Errors, a.record.Failure.LogTail
	}
	a.record.Timings.Frozen = time.Since(a.started)
	err = errors.Join(err, a.engine.Node.Hint(a.podUID, uncapturedHint, cause.Error()), a.engine.giveUp(a.dir, &a.record, failure))
	return errors.Join(err, a.stop(ctx))
}

// giveUp records a failure in the place of the state, and gives the folder its final name.
func (e *Engine) giveUp(dir string, record *capture.Capture, failure capture.Failure) error {
	if err := e.fill(dir, record, failure); err != nil {
		return err
	}
	_, err := publish(dir, record.Sequence)
	return err
}

// fill makes the folder of a capture that of a failed one.
func (e *Engine) fill(dir string, record *capture.Capture, failure capture.Failure) error {
	record.State, record.Failure = capture.Failed, &failure
	record.Containers, record.Volumes, record.Shm, record.SizeBytes = nil, nil, false, 0
	record.Timings.Total = time.Since(record.Started)
	if err := record.Write(dir); err != nil {
		return err
	}
	for _, what := range []string{"containers", "pod", "volumes", limitsFile, capture.ReservedFile} {
		if err := os.RemoveAll(filepath.Join(dir, what)); err != nil {
			return err
		}
	}
	return nil
}

func (a *attempt) payAll(ctx context.Context) error {
	var all error
	for _, m := range a.members {
		all = errors.Join(all, a.engine.pay(context.WithoutCancel(ctx), m.Container))
	}
	return all
}
