package trigger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/checkpoint"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/periodic"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Reconciler looks after one labelled pod at a time.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Now      func() time.Time
}

// SetUp adds the reconciler to the manager.
func SetUp(manager ctrl.Manager) error {
	r := &Reconciler{Client: manager.GetClient(), Recorder: manager.GetEventRecorder("checkpoint-manager"), Now: time.Now}
	return ctrl.NewControllerManagedBy(manager).Named("trigger").For(&corev1.Pod{}).
		Watches(&v1alpha1.CheckpointPolicy{}, handler.EnqueueRequestsFromMapFunc(r.ofPolicy), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Checkpoint{}, handler.EnqueueRequestsFromMapFunc(ofCheckpoint)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).Complete(r)
}

// ofPolicy returns the pods of a policy's namespace, any of which may be its own, or have been.
func (r *Reconciler) ofPolicy(ctx context.Context, policy client.Object) (requests []reconcile.Request) {
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.InNamespace(policy.GetNamespace())); err != nil { // of a cache that has not begun or has ended
		ctrl.LoggerFrom(ctx).Error(err, "list the pods")
	}
	for i := range pods.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pods.Items[i])})
	}
	return requests
}

func ofCheckpoint(_ context.Context, object client.Object) []reconcile.Request {
	c, isOne := object.(*v1alpha1.Checkpoint)
	if !isOne || !c.Spec.Trigger.IsLive() {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: c.Namespace, Name: c.Spec.SourcePodName}}}
}

// Reconcile makes the Checkpoint that is due for a pod.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	pod := &corev1.Pod{}
	if err := r.Client.Get(ctx, request.NamespacedName, pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	policies := &v1alpha1.CheckpointPolicyList{}
	if err := r.Client.List(ctx, policies, client.InNamespace(pod.Namespace)); err != nil {
		return ctrl.Result{}, err
	}
	policy := matching.CheckpointPolicyOf(pod.Labels, policies.Items)
	if value, wished := pod.Annotations[keys.CheckpointTrigger]; wished {
		return ctrl.Result{}, r.fulfil(ctx, pod, value, policy)
	}
	if reason, _ := podspec.NotLive(pod); reason != "" || !podspec.Runs(pod) {
		return ctrl.Result{}, nil // it is looked at again when that changes
	}
	checkpoints := &v1alpha1.CheckpointList{}
	of := client.MatchingFields{checkpoint.ByLivePod: pod.Name}
	if err := r.Client.List(ctx, checkpoints, client.InNamespace(pod.Namespace), of); err != nil {
		return ctrl.Result{}, err
	}
	since, busy := last(pod, checkpoints.Items)
	at, trigger := periodic.Next(pod, policy, since)
	switch left := at.Sub(r.Now()); {
	case at.IsZero() || busy: // when that one is done, there is an event
		return ctrl.Result{}, nil
	case left > 0:
		return ctrl.Result{RequeueAfter: left}, nil
	}
	return ctrl.Result{}, r.create(ctx, pod, policy, lineage.LiveCheckpoint(pod, trigger, at.UTC().Format("20060102150405")))
}

// fulfil makes the Checkpoint that an annotation asks for, and takes the annotation away. Killed in between, it finds by its name that it is made.
func (r *Reconciler) fulfil(ctx context.Context, pod *corev1.Pod, value string, policy *v1alpha1.CheckpointPolicy) error {
	sum := sha256.Sum256([]byte(value))
	wish := "a" + hex.EncodeToString(sum[:])[:8]
	if err := r.create(ctx, pod, policy, lineage.LiveCheckpoint(pod, v1alpha1.TriggerAnnotation, wish)); err != nil {
		return err
	}
	without := pod.DeepCopy()
	delete(without.Annotations, keys.CheckpointTrigger)
	return client.IgnoreNotFound(r.Client.Patch(ctx, without, client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{})))
}

func (r *Reconciler) create(ctx context.Context, pod *corev1.Pod, policy *v1alpha1.CheckpointPolicy, wanted *v1alpha1.Checkpoint) error {
	if pod.Spec.NodeName != "" {
		metav1.SetMetaDataLabel(&wanted.ObjectMeta, keys.SourceNode, lineage.NodeLabel(pod.Spec.NodeName))
	}
	lineage.Outlive(wanted, v1alpha1.RetentionOf(policy))
	err := r.Client.Create(ctx, wanted)
	switch {
	case apierrors.IsAlreadyExists(err):
		if wanted.Spec.Trigger == v1alpha1.TriggerAnnotation {
			r.Recorder.Eventf(pod, wanted, corev1.EventTypeNormal, "CheckpointExists", "Checkpoint",
				"Checkpoint %s is of a wish with the same value; another one is made for another value of %s", wanted.Name, keys.CheckpointTrigger)
		}
		return nil
	case apierrors.IsNotFound(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err == nil:
		r.Recorder.Eventf(pod, wanted, corev1.EventTypeNormal, "CheckpointRequested", "Checkpoint", "it is captured as Checkpoint %s (%s)",
			wanted.Name, wanted.Spec.Trigger)
	}
	return err
}

// last is from when on the next capture of a pod counts: when it was asked for the last time, or began to run. It is busy as long as it is not known what came
// of that.
func last(pod *corev1.Pod, checkpoints []v1alpha1.Checkpoint) (since time.Time, busy bool) {
	since = pod.CreationTimestamp.Time
	for _, s := range pod.Status.ContainerStatuses {
		if running := s.State.Running; running != nil && running.StartedAt.After(since) {
			since = running.StartedAt.Time
		}
	}
	for i := range checkpoints {
		c := &checkpoints[i]
		uid := c.Spec.SourcePodUID
		if c.Status.Source != nil {
			uid = c.Status.Source.PodUID
		}
		if uid != "" && uid != pod.UID {
			continue
		}
		if c.CreationTimestamp.After(since) {
			since = c.CreationTimestamp.Time
		}
		busy = busy || isBusy(c)
	}
	return since, busy
}

// isBusy tells whether a state may still be written.
func isBusy(c *v1alpha1.Checkpoint) bool {
	if !c.DeletionTimestamp.IsZero() {
		return false
	}
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady)
	return ready == nil || ready.Reason == v1alpha1.StatePending || ready.Reason == v1alpha1.StateDumping
}
