package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/failpoint"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Reconcile brings what is on disk and what the pod says of itself together, for one pod of this node.
func (a *Agent) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	pod := &corev1.Pod{}
	if err := a.Client.Get(ctx, request.NamespacedName, pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // tidy cleans up after pods that are gone
	}
	if !podspec.IsProtected(pod) {
		return ctrl.Result{}, nil
	}
	if err := a.takeNote(pod); err != nil {
		return ctrl.Result{}, err
	}
	if pod.DeletionTimestamp.IsZero() { // what holds when it is stopped holds to its end
		if err := a.pause(ctx, pod); err != nil {
			return ctrl.Result{}, err
		}
	} else {
		err := a.Node.Hint(string(pod.UID), capture.DeletingHint, "")
		if podspec.Asks(pod) && !podspec.IsPaused(pod) && podspec.Runs(pod) {
			err = errors.Join(err, a.mark(ctx, pod))
		}
		if err != nil {
			return ctrl.Result{}, err
		}
	}
	decision, err := a.Node.Decision(string(pod.UID))
	switch {
	case err == nil:
		return a.report(ctx, pod, decision)
	case !errors.Is(err, fs.ErrNotExist):
		return ctrl.Result{}, err
	case !pod.DeletionTimestamp.IsZero() || pod.Status.Phase != corev1.PodPending && a.Node.Lost(string(pod.UID)) == nil:
		return ctrl.Result{}, nil // too late to decide anything
	}
	if reason, why, err := a.heldBack(ctx, pod.Namespace); err != nil || why != "" {
		if err != nil {
			return ctrl.Result{}, err
		}
		return a.decideCold(pod, reason, why)
	}
	if !podspec.Asks(pod) { // the runtime waits all the same, as admission's annotation is there
		const message = "it does not ask by " + keys.CheckpointMode + " any more"
		return a.decided(pod, capture.Decision{Action: capture.Cold, Reason: keys.ColdRestoreDisabled, Message: message})
	}
	return a.decide(ctx, pod)
}

// decide makes the choice for a new pod and carries it out.
func (a *Agent) decide(ctx context.Context, pod *corev1.Pod) (ctrl.Result, error) {
	f, err := a.gather(ctx, pod)
	if err != nil {
		return ctrl.Result{}, err
	}
	c := matching.Choose(f)
	if err := a.hintFailing(f, c); err != nil {
		return ctrl.Result{}, err
	}
	switch {
	case c.Wait != "":
		return ctrl.Result{RequeueAfter: undecidedInterval}, a.Node.Hint(string(pod.UID), capture.WaitingHint, c.Wait)
	case c.Refuse != "":
		return a.refuse(ctx, pod, f.Policy, c, refusedInterval)
	case c.Cold != "":
		return a.decidedCold(pod, f, capture.Decision{Reason: c.Cold, Message: c.Message})
	}
	if c.Begin != nil { // it stays as it is, and whoever else names it begins from it, too
		if err := a.dropClaim(ctx, pod, ""); err != nil {
			return ctrl.Result{}, err
		}
		return a.bring(ctx, pod, f, c)
	}
	if err := a.noteClaim(ctx, pod, c.Claim); err != nil {
		return ctrl.Result{}, err
	}
	failpoint.Hit(failpoint.ClaimNoted)
	won, err := a.claim(ctx, pod, c.Claim)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !won { // another pod was faster: what is left now is known at once
		return ctrl.Result{RequeueAfter: time.Millisecond}, nil
	}
	failpoint.Hit(failpoint.ClaimMade)
	return a.bring(ctx, pod, f, c)
}

// bring brings the state that was claimed for a pod, or the one before it, or the one that the pod begins from, to the node, and decides by what came of that.
func (a *Agent) bring(ctx context.Context, pod *corev1.Pod, f matching.Facts, c matching.Choice) (ctrl.Result, error) {
	from, reason := cmp.Or(c.From, c.Claim, c.Begin), ""
	record, err := a.fetch(ctx, pod, from)
	if err == nil {
		err = fits(pod, record)
	}
	for c.From == nil && c.Begin == nil && (isForGood(err) || err != nil && !f.MayFetch() && !errors.Is(err, errNoTurn)) {
		before, why := f.Before(from)
		if before == nil {
			if why != "" {
				reason, err = keys.ColdVolumeAdvanced, fmt.Errorf("%w; %s", err, why)
			}
			break
		}
		c.Message = fmt.Sprintf("fetch Checkpoint %s: %v", from.Name, err)
		from = before
		if record, err = a.fetch(ctx, pod, from); err == nil {
			err = fits(pod, record)
		}
	}
	if err == nil {
		failpoint.Hit(failpoint.Fetched)
		return a.decidedToRestore(ctx, pod, f, from, c, record)
	}
	if errors.Is(err, errNoTurn) {
		hint := fmt.Sprintf("Checkpoint %s waits to be fetched: %v", from.Name, err)
		return ctrl.Result{RequeueAfter: undecidedInterval}, a.Node.Hint(string(pod.UID), capture.WaitingHint, hint)
	}
	if isForGood(err) || !f.MayFetch() {
		without := f.WithoutRestore(cmp.Or(reason, unfetchedReason(err)), fmt.Sprintf("fetch Checkpoint %s: %v", from.Name, err))
		if without.Refuse != "" { // and the claim stays with the pod
			return a.refuse(ctx, pod, f.Policy, without, unfetchedInterval)
		}
		d := capture.Decision{Reason: without.Cold, Message: without.Message, Checkpoint: cmp.Or(c.Claim, c.Begin).Name}
		cold, decideErr := a.decidedCold(pod, f, d)
		if c.Claim == nil {
			return cold, decideErr
		}
		return cold, errors.Join(decideErr, a.release(ctx, pod, c.Claim))
	}
	ctrl.LoggerFrom(ctx).Error(err, "fetch", "checkpoint", from.Name, "pod", pod.Name)
	hint := fmt.Sprintf("fetching Checkpoint %s: %v", from.Name, err)
	return ctrl.Result{RequeueAfter: time.Second}, a.Node.Hint(string(pod.UID), capture.WaitingHint, hint)
}

// decidedToRestore writes the decision to restore a pod from a state that is here. With the fallback Previous the one before it is brought as well, if
// there is one: what CRIU makes of a state shows when nothing slow may happen any more.
func (a *Agent) decidedToRestore(
	ctx context.Context, pod *corev1.Pod, f matching.Facts, from *v1alpha1.Checkpoint, c matching.Choice, record *capture.Capture,
) (ctrl.Result, error) {
	d := capture.Decision{
		Action: capture.Restore, Checkpoint: from.Name, Directory: a.stateOf(pod, from), Compatibility: matching.RulesOf(f.Policy),
		Policy: nameOf(f.Policy), Fallback: fallbackOf(f), Attempts: f.Attempts(), Containers: containersOf(record),
		PostRestore: postRestoreOf(pod, f.Policy),
	}
	d.Kept, d.KeptLine = a.keptOf(d.Directory, from), lineOf(pod, c.Claim, from)
	d.Restarts, d.NoRestarts = f.ContainerRestarts(len(d.Containers))
	if c.Begin != nil {
		d.Begins = true
		return a.decided(pod, d)
	}
	if from != c.Claim {
		d.GivenUp = &capture.GivenUp{Checkpoint: c.Claim.Name, Why: c.Message}
		return a.decided(pod, d)
	}
	before, _ := f.Before(from)
	if before == nil {
		return a.decided(pod, d)
	}
	record, err := a.fetch(ctx, pod, before)
	switch {
	case errors.Is(err, errNoTurn):
		hint := fmt.Sprintf("Checkpoint %s, the one before, waits to be fetched: %v", before.Name, err)
		return ctrl.Result{RequeueAfter: undecidedInterval}, a.Node.Hint(string(pod.UID), capture.WaitingHint, hint)
	case err != nil: // the pod does not wait for what it will probably not need
		ctrl.LoggerFrom(ctx).Error(err, "fetch the state before", "checkpoint", before.Name, "pod", pod.Name)
	case slices.Equal(containersOf(record), d.Containers):
		d.Previous = &capture.Fetched{Checkpoint: before.Name, Directory: a.stateOf(pod, before)}
		d.Previous.Kept = a.keptOf(d.Previous.Directory, before)
	}
	return a.decided(pod, d)
}

// containersOf returns the names of captured containers.
func containersOf(record *capture.Capture) (names []string) {
	for _, c := range record.Containers {
		names = append(names, c.Name)
	}
	return names
}

// decidedCold writes the decision that a pod starts cold. What it leaves while it goes on serves its containers when they end, if the policy says so.
func (a *Agent) decidedCold(pod *corev1.Pod, f matching.Facts, d capture.Decision) (ctrl.Result, error) {
	d.Action, d.Policy = capture.Cold, nameOf(f.Policy)
	if d.Restarts, d.NoRestarts = f.ContainerRestarts(1); d.Restarts > 0 {
		d.PostRestore = postRestoreOf(pod, f.Policy)
	}
	return a.decided(pod, d)
}

// decided writes the decision, upon which the runtime goes on, and has the pod looked at again soon.
func (a *Agent) decided(pod *corev1.Pod, d capture.Decision) (ctrl.Result, error) {
	err := a.Node.Decide(string(pod.UID), d)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return ctrl.Result{}, err
	}
	if bound := boundAt(pod); err == nil && !bound.IsZero() {
		decisionSeconds.Observe(max(a.Now().Sub(bound).Seconds(), 0))
	}
	hints := errors.Join(a.Node.DropHint(string(pod.UID), capture.WaitingHint), a.Node.DropHint(string(pod.UID), capture.FailingHint))
	return ctrl.Result{RequeueAfter: time.Millisecond}, hints
}

// stateOf is where the state of a Checkpoint is brought for a new pod.
func (a *Agent) stateOf(pod *corev1.Pod, checkpoint *v1alpha1.Checkpoint) string {
	return a.Node.State(string(pod.UID), checkpoint.Name)
}

func (a *Agent) statesOf(pod *corev1.Pod) string { return a.Node.States(string(pod.UID)) }

// dropStates removes the states of earlier boots.
func (a *Agent) dropStates(pod *corev1.Pod) error {
	boot, err := a.Node.BootID()
	if errors.Is(err, fs.ErrNotExist) { // nothing tells boots apart
		return nil
	}
	for _, name := range namesIn(a.statesOf(pod)) {
		if err == nil && name != boot {
			err = os.RemoveAll(filepath.Join(a.statesOf(pod), name))
		}
	}
	return err
}

// tidy removes what belongs to pods that are gone.
func (a *Agent) tidy(ctx context.Context) error {
	return every(ctx, tidyInterval, func() {
		a.leaveWord(ctx)
		decided := namesIn(a.Node.RestoresRoot()) // before the pods: one that comes in between is not taken for gone
		pods := &corev1.PodList{}
		if err := a.Client.List(ctx, pods); err != nil {
			return
		}
		alive := map[string]bool{}
		for _, pod := range pods.Items {
			alive[string(pod.UID)] = true
		}
		for _, podUID := range decided {
			if alive[podUID] {
				a.endHold(ctx, podUID)
				continue
			}
			if err := a.settleGone(ctx, podUID); err != nil {
				ctrl.LoggerFrom(ctx).Error(err, "settle the claim of a pod that is gone", a.aboutPod(podUID)...)
			}
		}
		a.forget(alive)
		a.tidyDiagnosis(ctx)
		for _, root := range []string{a.Node.PodsRoot(), filepath.Join(a.Node.Root, "run/checkpoint/gates"), filepath.Join(a.Node.Root, "run/checkpoint/execs")} {
			for _, name := range namesIn(root) {
				if !alive[name] {
					_ = os.RemoveAll(filepath.Join(root, name)) // the next turn tries again
				}
			}
		}
		for _, name := range namesIn(a.Node.CapturesRoot()) {
			if !alive[name] {
				a.tidyCaptures(name)
			}
		}
	})
}

// holdPatience is after how long the runtime itself should have let the held containers of a pod go on.
const holdPatience = 70 * time.Second

// endHold has the runtime let the containers of a pod go on that whoever held them has forgotten.
func (a *Agent) endHold(ctx context.Context, podUID string) {
	info, err := os.Stat(filepath.Join(a.Node.Restores(podUID), capture.HeldFile))
	if err != nil || a.Now().Sub(info.ModTime()) < holdPatience {
		return
	}
	if err := a.Settle(ctx, podUID); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "let the restored containers of a pod go on", a.aboutPod(podUID)...)
	}
}

// tidyInterval is how often the agent looks for what belongs to nobody any more.
const tidyInterval = 5 * time.Second

// tidyCaptures removes the folder of a pod that is gone once nothing of it is left to publish.
func (a *Agent) tidyCaptures(podUID string) {
	dir := a.Node.Captures(podUID)
	lock := filepath.Join(dir, "lock")
	if left, err := filepath.Glob(filepath.Join(dir, "[0-9]*")); err != nil || len(left) > 0 || isLocked(lock) {
		return
	}
	if info, err := os.Stat(dir); err != nil || a.Now().Sub(info.ModTime()) < time.Minute {
		return
	}
	_, _ = os.RemoveAll(dir), os.Remove(a.noteFile(podUID))
}

// logTime is how long the runtime's log of a pod that is gone is kept, for whoever looks for a cause.
const logTime = time.Hour

// forget removes what is left of pods that are gone: the notes of those that were never captured, old logs, and signals that nobody is left to
// get; and what this process remembers of folders that are gone.
func (a *Agent) forget(alive map[string]bool) {
	run := filepath.Join(a.Node.Root, "run/checkpoint")
	for _, old := range []struct {
		root, suffix string
		after        time.Duration
	}{
		{filepath.Dir(a.noteFile("")), ".json", time.Minute}, {filepath.Join(run, "log"), ".log", logTime}, {filepath.Join(run, "signals"), "", time.Minute},
	} {
		for _, name := range namesIn(old.root) {
			podUID, path := strings.TrimSuffix(name, old.suffix), filepath.Join(old.root, name)
			if _, err := os.Stat(a.Node.Captures(podUID)); alive[podUID] || !errors.Is(err, fs.ErrNotExist) { // it is still needed
				continue
			}
			if info, err := os.Stat(path); err == nil && a.Now().Sub(info.ModTime()) > old.after {
				_ = os.RemoveAll(path) // the next turn tries again
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for podUID := range a.noted {
		if !alive[string(podUID)] {
			delete(a.noted, podUID)
		}
	}
	for dir, p := range a.work {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && !p.busy {
			delete(a.work, dir)
		}
	}
}

func namesIn(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func isConflict(err error) bool { return apierrors.IsConflict(err) || apierrors.IsInvalid(err) }
