package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// How often a Checkpoint of a pod that goes on is looked at until it is captured, and how many times the runtime is asked in vain.
const (
	askInterval = 500 * time.Millisecond
	askMost     = 10
)

// asking is what the agent remembers of a Checkpoint for which it has asked the runtime. It can be forgotten.
type asking struct {
	busy   bool
	failed int
	why    string
	next   time.Time
}

// watchAsked has the captures made that Checkpoints of this node's pods ask for.
func (a *Agent) watchAsked(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("live").For(&v1alpha1.Checkpoint{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: 8}).Complete(reconcile.Func(a.reconcileAsked))
}

// reconcileAsked does what is next about one of them: it asks the runtime, or says why there is nothing to capture. What the runtime writes is published as
// any capture is.
func (a *Agent) reconcileAsked(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	c := &v1alpha1.Checkpoint{}
	if err := a.Client.Get(ctx, request.NamespacedName, c); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	ctx = ctrl.LoggerInto(ctx, ctrl.LoggerFrom(ctx).WithValues("checkpoint", c.Name, "pod", c.Spec.SourcePodName))
	if !c.Spec.Trigger.IsLive() || !c.DeletionTimestamp.IsZero() || c.Status.Source == nil || c.Status.Source.Node != a.NodeName || isCaptureKnown(c) {
		a.forgetAsking(c.UID)
		return ctrl.Result{}, nil
	}
	again := ctrl.Result{RequeueAfter: askInterval}
	podUID := string(c.Status.Source.PodUID)
	if _, record := a.folderFor(c); record != nil {
		if record.Trigger.IsTermination() {
			const why = "the pod was terminated while its state was written, and that has become its last one"
			return ctrl.Result{}, a.notCaptured(ctx, c, v1alpha1.ReasonSourceTerminated, why)
		}
		return again, nil
	}
	reason, why, wait := a.askable(ctx, c)
	switch {
	case reason != "":
		return ctrl.Result{}, a.notCaptured(ctx, c, reason, why)
	case wait || isLocked(filepath.Join(a.Node.Captures(podUID), "lock")): // another capture of the pod goes on
		return again, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	try := a.asked[c.UID]
	if try == nil {
		try = &asking{}
		a.asked[c.UID] = try
	}
	switch {
	case try.busy || a.Now().Before(try.next):
		return again, nil
	case try.failed >= askMost:
		return ctrl.Result{}, a.notCaptured(ctx, c, v1alpha1.ReasonFreezeFailed, try.why)
	}
	try.busy = true
	go a.ask(context.WithoutCancel(ctx), try, podUID, capture.Asks{Checkpoint: c.Name, UID: string(c.UID)})
	return again, nil
}

// ask has the runtime capture a pod that goes on.
func (a *Agent) ask(ctx context.Context, try *asking, podUID string, asks capture.Asks) {
	err := a.CaptureLive(ctx, podUID, asks)
	a.mu.Lock()
	defer a.mu.Unlock()
	try.busy = false
	if err != nil {
		try.failed++
		try.why, try.next = err.Error(), a.Now().Add(min(longestWait, time.Second<<min(try.failed-1, 10)))
		ctrl.LoggerFrom(ctx).Error(err, "capture a pod that goes on", "podUID", podUID, "attempt", try.failed)
	}
}

func (a *Agent) forgetAsking(checkpoint types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if try := a.asked[checkpoint]; try != nil && !try.busy {
		delete(a.asked, checkpoint)
	}
}

// askable tells whether a pod can be captured while it goes on: if not, for which reason, or that it has to be waited for.
func (a *Agent) askable(ctx context.Context, c *v1alpha1.Checkpoint) (reason, why string, wait bool) {
	pod := &corev1.Pod{}
	err := a.Client.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: c.Spec.SourcePodName}, pod)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return "", "", true
	case err != nil || pod.UID != c.Status.Source.PodUID:
		return v1alpha1.ReasonSourceNotFound, fmt.Sprintf("pod %s was gone before it was captured", c.Spec.SourcePodName), false
	}
	if reason, why = podspec.NotLive(pod); reason != "" {
		return reason, why, false
	}
	if !podspec.Runs(pod) {
		return "", "", true
	}
	if forgiven, probe := podspec.Forgives(pod); probe != "" {
		if estimate := a.estimate(string(pod.UID)); estimate > forgiven {
			return v1alpha1.ReasonFreezeBudget, fmt.Sprintf("it would stand still for about %s, and the %s forgives %s",
				v1alpha1.ReadableDuration(estimate).Duration, probe, forgiven), false
		}
	}
	return "", "", false
}

// estimate is for how long a pod probably stands still when it is captured, by what its containers hold.
func (a *Agent) estimate(podUID string) time.Duration {
	need := int64(0)
	a.prober.mu.Lock()
	for _, w := range a.prober.containers {
		if w.Pod.UID == podUID {
			need += w.memory + w.files
		}
	}
	a.prober.mu.Unlock()
	a.mu.Lock()
	rate := a.rate
	a.mu.Unlock()
	if rate == 0 {
		rate = firstRate
	}
	return freezeBase + time.Duration(float64(need)/rate*float64(time.Second))
}

// What a capture takes at least, and how fast it is taken to write, in bytes a second, until one was seen.
const (
	freezeBase = 300 * time.Millisecond
	firstRate  = 256 << 20
)

// learn takes note of how fast a capture was written. Small ones tell nothing.
func (a *Agent) learn(record *capture.Capture) {
	const least = 64 << 20
	if record.SizeBytes < least || record.Timings.Frozen <= freezeBase {
		return
	}
	rate := float64(record.SizeBytes) / (record.Timings.Frozen - freezeBase).Seconds()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rate == 0 {
		a.rate = rate
	}
	a.rate = (a.rate + rate) / 2
}

// notCaptured says of a Checkpoint that there will be no state.
func (a *Agent) notCaptured(ctx context.Context, c *v1alpha1.Checkpoint, reason, why string) error {
	r := report{source: *c.Status.Source, captured: condition(v1alpha1.CheckpointCaptured), uploaded: condition(v1alpha1.CheckpointUploaded)}
	r.captured.Reason, r.captured.Message = reason, why
	r.uploaded.Reason, r.uploaded.Message = v1alpha1.ReasonCaptureFailed, "there is nothing to upload"
	if err := a.apply(ctx, c, r); err != nil {
		return client.IgnoreNotFound(err)
	}
	a.countCapture(reason)
	record := &capture.Capture{Pod: capture.Pod{Namespace: c.Namespace, Name: c.Spec.SourcePodName, UID: string(c.Status.Source.PodUID)}}
	a.event(c, record, corev1.EventTypeWarning, reason, "not captured: "+why)
	return nil
}

// isCaptureKnown tells whether it is known what came of the capture of a Checkpoint.
func isCaptureKnown(c *v1alpha1.Checkpoint) bool {
	captured := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointCaptured)
	return captured != nil && (captured.Status == metav1.ConditionTrue || captured.Reason != v1alpha1.StatePending && captured.Reason != v1alpha1.StateDumping)
}

// keyOf is the name of the Checkpoint that a capture belongs to: the one that asked for it, or that of the pod's last state.
func keyOf(record *capture.Capture) client.ObjectKey {
	key := client.ObjectKey{Namespace: record.Pod.Namespace, Name: v1alpha1.TerminationName(record.Pod.Name, uid(record.Pod.UID))}
	if record.Trigger.IsLive() {
		key.Name = record.Trigger.Asks.Checkpoint
	}
	return key
}

// localState returns the folder on this node that has the state of a Checkpoint; none is empty.
func (a *Agent) localState(c *v1alpha1.Checkpoint) string {
	if c.Status.Source == nil {
		return ""
	}
	if !c.Spec.Trigger.IsLive() {
		dir := a.localCapture(string(c.Status.Source.PodUID))
		if record, err := capture.Read(dir); dir == "" || err != nil || record.Pod.Namespace != c.Namespace { // who writes a status may write any UID
			return ""
		}
		return dir
	}
	dir, record := a.folderFor(c)
	if record == nil || record.Pod.Namespace != c.Namespace || number(filepath.Base(dir)) < 0 || record.State != capture.Complete ||
		!record.Trigger.IsLive() || !a.Node.IsWhole(dir, record) {
		return ""
	}
	return dir
}

// folderFor returns the newest folder that was begun for a Checkpoint that asked, finished or not, and its record; nil when there is none.
func (a *Agent) folderFor(c *v1alpha1.Checkpoint) (dir string, record *capture.Capture) {
	parent := a.Node.Captures(string(c.Status.Source.PodUID))
	names := namesIn(parent)
	slices.Sort(names)
	for _, name := range names {
		found, err := capture.Read(filepath.Join(parent, name))
		if err == nil && found.Trigger.Asks != nil && found.Trigger.Asks.UID == string(c.UID) && (record == nil || found.Sequence >= record.Sequence) {
			dir, record = filepath.Join(parent, name), found
		}
	}
	return dir, record
}
