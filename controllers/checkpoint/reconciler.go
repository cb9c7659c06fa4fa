package checkpoint

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/condition"
	"github.com/transparent-checkpoint/operator/controllers/origin"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/storage"
)

// Options are what the reconciler needs besides the manager.
type Options struct {
	// Namespace is that of the Secrets of locations.
	Namespace string
	// Open opens the store of a location with the data of its Secret.
	Open func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error)
}

// Reconciler looks after one Checkpoint at a time.
type Reconciler struct {
	Options
	Client client.Client
	// Live reads past the cache.
	Live     client.Reader
	Recorder events.EventRecorder
	Now      func() time.Time

	mu sync.Mutex
	// ended is when the source pods were seen to have ended by themselves. It is forgotten at a restart; then the state is Failed later.
	ended map[types.UID]time.Time

	there tally
}

// SetUp adds the reconciler to the manager.
func SetUp(manager ctrl.Manager, options Options) error {
	r := &Reconciler{
		Options: options, Client: manager.GetClient(), Live: manager.GetAPIReader(), Recorder: manager.GetEventRecorder("checkpoint-manager"), Now: time.Now,
	}
	if err := addIndexes(manager); err != nil {
		return err
	}
	return r.watch(ctrl.NewControllerManagedBy(manager).Named("checkpoint").For(&v1alpha1.Checkpoint{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}). // one that deletes much keeps no other waiting
		Complete(r)
}

// Reconcile brings the condition Ready of one Checkpoint up to date, or deletes its data.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	checkpoint := &v1alpha1.Checkpoint{}
	if err := r.Client.Get(ctx, request.NamespacedName, checkpoint); err != nil {
		if apierrors.IsNotFound(err) {
			r.there.drop(request.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.there.set(checkpoint)
	ctx = ctrl.LoggerInto(ctx, ctrl.LoggerFrom(ctx).WithValues("checkpoint", checkpoint.Name, "pod", checkpoint.Spec.SourcePodName))
	if !checkpoint.DeletionTimestamp.IsZero() {
		return r.finalize(ctx, checkpoint)
	}
	f, err := r.gather(ctx, checkpoint)
	if err != nil {
		return ctrl.Result{}, err
	}
	v := judge(f)
	if err := r.hand(ctx, f, v); err != nil { // before its source is known, with which the agent begins
		return ctrl.Result{}, err
	}
	if err := r.write(ctx, f, v); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if err := r.label(ctx, checkpoint); err != nil {
		return ctrl.Result{}, err
	}
	again, err := r.stop(ctx, f)
	if v.again == 0 || again > 0 && again < v.again {
		v.again = again
	}
	return ctrl.Result{RequeueAfter: v.again}, err
}

// sourceUID is the UID of the source pod; empty while nobody knows.
func sourceUID(checkpoint *v1alpha1.Checkpoint) types.UID {
	if source := checkpoint.Status.Source; source != nil {
		return source.PodUID
	}
	return checkpoint.Spec.SourcePodUID
}

// gather reads what the state is told by.
func (r *Reconciler) gather(ctx context.Context, checkpoint *v1alpha1.Checkpoint) (facts, error) {
	f := facts{checkpoint: checkpoint, now: r.Now()}
	pod := &corev1.Pod{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: checkpoint.Namespace, Name: checkpoint.Spec.SourcePodName}, pod)
	if client.IgnoreNotFound(err) != nil {
		return f, err
	}
	switch uid := sourceUID(checkpoint); {
	case err != nil:
	case uid == "" || uid == pod.UID:
		f.pod = pod
	default:
		f.replacedBy = pod.UID
	}
	f.ended = r.rememberEnd(checkpoint.UID, f)
	if f.nowhere, f.help, err = r.nowhere(ctx, f); err != nil {
		return f, err
	}
	node := &corev1.Node{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: f.node()}, node); err != nil {
		return f, client.IgnoreNotFound(err)
	}
	f.nodeUp = isReady(node)
	return f, nil
}

// nowhere says why there is no location for the Checkpoint, if that is so: neither one in which its upload was begun, nor that of its policy.
func (r *Reconciler) nowhere(ctx context.Context, f facts) (reason, help string, err error) {
	locations, policies := &v1alpha1.CheckpointStorageLocationList{}, &v1alpha1.CheckpointPolicyList{}
	if err := r.Client.List(ctx, locations); err != nil {
		return "", "", err
	}
	if err := r.Client.List(ctx, policies, client.InNamespace(f.checkpoint.Namespace)); err != nil {
		return "", "", err
	}
	if needsNoLocation(f) {
		return "", "", nil
	}
	if name := f.checkpoint.Status.LocationName; name != "" {
		for i := range locations.Items {
			if l := &locations.Items[i]; l.Name == name && l.IsReadOnly() {
				return v1alpha1.ReasonLocationReadOnly, v1alpha1.ReadOnlyMessage(name), nil
			}
		}
		return "", "", nil
	}
	var labels map[string]string
	if source := f.checkpoint.Status.Source; source != nil {
		labels = source.Labels
	} else if f.pod != nil {
		labels = f.pod.Labels
	}
	_, reason, help = v1alpha1.UploadLocation(matching.CheckpointPolicyOf(labels, policies.Items), locations.Items)
	return reason, help, nil
}

// needsNoLocation tells whether the state is kept in a volume of the pod, or is going to be as far as is known.
func needsNoLocation(f facts) bool {
	if f.checkpoint.Status.Volume != nil {
		return true
	}
	if f.pod == nil || meta.IsStatusConditionTrue(f.checkpoint.Status.Conditions, v1alpha1.CheckpointCaptured) {
		return false
	}
	settings, err := capture.ParseSettings(f.pod.Annotations[keys.Effective])
	return err == nil && settings.StorageVolume != nil
}

func (r *Reconciler) rememberEnd(uid types.UID, f facts) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, seen := r.ended[uid]; !seen && f.pod != nil && endedByItself(f.pod) {
		if r.ended == nil {
			r.ended = map[types.UID]time.Time{}
		}
		r.ended[uid] = f.now
	}
	return r.ended[uid]
}

func (r *Reconciler) forgetEnd(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ended, uid)
}

func isReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// write writes the verdict, and tells of a new state by an event. What is applied is all that the manager says, or the rest would go.
func (r *Reconciler) write(ctx context.Context, f facts, v verdict) error {
	checkpoint, there := f.checkpoint, f.checkpoint.Status.Conditions
	ready := metav1.Condition{Type: v1alpha1.CheckpointReady, Status: metav1.ConditionFalse, Reason: v.state, Message: v.message}
	if v.state == v1alpha1.StateCompleted {
		ready.Status = metav1.ConditionTrue
	}
	status, changed := apply.CheckpointStatus().WithConditions(condition.Apply(there, ready, f.now)), condition.Changed(there, ready)
	source := checkpoint.Status.Source
	if source == nil && f.pod != nil && f.pod.Spec.NodeName != "" {
		_, known := lineage.TerminationCheckpoint(f.pod)
		source, changed = &known, true
	}
	if source != nil {
		status.WithSource(origin.Apply(*source))
	}
	if stalled, wanted := stalledOf(there, v); wanted {
		status.WithConditions(condition.Apply(there, stalled, f.now))
		changed = changed || condition.Changed(there, stalled)
	} else {
		changed = changed || ownsStalled(checkpoint)
	}
	if !changed {
		return nil
	}
	wanted := apply.Checkpoint(checkpoint.Name, checkpoint.Namespace).WithUID(checkpoint.UID).WithStatus(status)
	if err := r.Client.Status().Apply(ctx, wanted, client.FieldOwner(keys.ManagerFields), client.ForceOwnership); err != nil {
		if apierrors.IsConflict(err) { // it was deleted, and made anew under its name
			return nil
		}
		return err
	}
	if old := meta.FindStatusCondition(there, v1alpha1.CheckpointReady); old == nil || old.Reason != v.state {
		r.tell(f, v)
	}
	return nil
}

// tell makes an event of a new state, for the Checkpoint and for the pod as long as it is there.
func (r *Reconciler) tell(f facts, v verdict) {
	kind := corev1.EventTypeNormal
	if v.state == v1alpha1.StateFailed {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(f.checkpoint, nil, kind, v.state, "Checkpoint", "%s", v1alpha1.EventNote(v.message))
	if f.pod != nil {
		r.Recorder.Eventf(f.pod, f.checkpoint, kind, v.state, "Checkpoint", "%s", v1alpha1.EventNote("Checkpoint "+f.checkpoint.Name+": "+v.message))
	}
	switch v.state {
	case v1alpha1.StateCompleted, v1alpha1.StateFailed, v1alpha1.StateDiscarded:
		finished.WithLabelValues(v.state).Inc()
	}
}

// stalledOf returns the condition Stalled when there is a reason for it. One that the agent has written with that reason stays as it is, or
// each would overwrite the other's sentence for ever.
func stalledOf(there []metav1.Condition, v verdict) (metav1.Condition, bool) {
	stalled := metav1.Condition{Type: v1alpha1.CheckpointStalled, Status: metav1.ConditionTrue, Reason: v.stalled, Message: v.help}
	if old := meta.FindStatusCondition(there, v1alpha1.CheckpointStalled); old != nil && old.Status == metav1.ConditionTrue && old.Reason == v.stalled {
		stalled.Message = old.Message
	}
	return stalled, v.stalled != ""
}

// ownsStalled tells whether a condition Stalled is there that only the manager gives reasons for, or could have.
func ownsStalled(checkpoint *v1alpha1.Checkpoint) bool {
	old := meta.FindStatusCondition(checkpoint.Status.Conditions, v1alpha1.CheckpointStalled)
	if old == nil {
		return false
	}
	switch old.Reason {
	case v1alpha1.ReasonNodeUnavailable, v1alpha1.ReasonNoStorageLocation, v1alpha1.ReasonLocationNotFound, v1alpha1.ReasonLocationReadOnly:
		return true
	}
	return false
}
