package checkpointpolicy

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/condition"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Reconciler writes the status of CheckpointPolicies.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Now      func() time.Time
}

// SetUp adds the reconciler to the manager.
func SetUp(manager ctrl.Manager) error {
	r := &Reconciler{Client: manager.GetClient(), Recorder: manager.GetEventRecorder("checkpoint-manager"), Now: time.Now}
	changed := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	return ctrl.NewControllerManagedBy(manager).Named("checkpointpolicy").
		For(&v1alpha1.CheckpointPolicy{}, changed).
		// Which of several policies has a pod depends on all of them.
		Watches(&v1alpha1.CheckpointPolicy{}, handler.EnqueueRequestsFromMapFunc(r.ofNamespace), changed).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.ofNamespace), builder.WithPredicates(predicate.Funcs{UpdateFunc: matters})).
		Watches(&v1alpha1.CheckpointStorageLocation{}, handler.EnqueueRequestsFromMapFunc(r.ofLocation), changed).
		Complete(r)
}

// matters tells whether an update of a pod can change which policy has it.
func matters(e event.UpdateEvent) bool {
	before, isPod := e.ObjectOld.(*corev1.Pod)
	after, isToo := e.ObjectNew.(*corev1.Pod)
	return !isPod || !isToo || !maps.Equal(before.Labels, after.Labels) || podspec.HasEnded(before) != podspec.HasEnded(after)
}

// ofNamespace returns the policies of an object's namespace.
func (r *Reconciler) ofNamespace(ctx context.Context, o client.Object) []reconcile.Request {
	return r.policies(ctx, func(*v1alpha1.CheckpointPolicy) bool { return true }, client.InNamespace(o.GetNamespace()))
}

// ofLocation returns the policies that name a location.
func (r *Reconciler) ofLocation(ctx context.Context, location client.Object) []reconcile.Request {
	return r.policies(ctx, func(p *v1alpha1.CheckpointPolicy) bool { return p.Spec.StorageLocation == location.GetName() })
}

func (r *Reconciler) policies(ctx context.Context, matches func(*v1alpha1.CheckpointPolicy) bool, options ...client.ListOption) (requests []reconcile.Request) {
	all := &v1alpha1.CheckpointPolicyList{}
	if err := r.Client.List(ctx, all, options...); err != nil { // of a cache that has not begun or has ended
		ctrl.LoggerFrom(ctx).Error(err, "list the CheckpointPolicies")
		return nil
	}
	for i := range all.Items {
		if matches(&all.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return requests
}

// Reconcile brings the status of one policy up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	policy := &v1alpha1.CheckpointPolicy{}
	if err := r.Client.Get(ctx, request.NamespacedName, policy); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !policy.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	pods, err := r.podsOf(ctx, policy)
	if err != nil {
		return ctrl.Result{}, err
	}
	locations := &v1alpha1.CheckpointStorageLocationList{}
	if err := r.Client.List(ctx, locations); err != nil {
		return ctrl.Result{}, err
	}
	ready, there := judge(policy, pods, locations.Items), policy.Status
	matched := int32(min(len(pods), 1<<30))
	if !condition.Changed(there.Conditions, ready) && there.ObservedGeneration == policy.Generation && there.MatchedPods == matched {
		return ctrl.Result{}, nil
	}
	status := apply.CheckpointPolicyStatus().WithObservedGeneration(policy.Generation).WithMatchedPods(matched).
		WithConditions(condition.Apply(there.Conditions, ready, r.Now()))
	wanted := apply.CheckpointPolicy(policy.Name, policy.Namespace).WithUID(policy.UID).WithStatus(status)
	if err := r.Client.Status().Apply(ctx, wanted, client.FieldOwner(keys.ManagerFields), client.ForceOwnership); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if old := meta.FindStatusCondition(there.Conditions, ready.Type); old == nil || old.Reason != ready.Reason {
		r.tell(policy, ready)
	}
	return ctrl.Result{}, nil
}

// podsOf returns the labelled pods that a policy applies to, and no older one.
func (r *Reconciler) podsOf(ctx context.Context, policy *v1alpha1.CheckpointPolicy) (mine []*corev1.Pod, err error) {
	policies, pods := &v1alpha1.CheckpointPolicyList{}, &corev1.PodList{}
	if err := r.Client.List(ctx, policies, client.InNamespace(policy.Namespace)); err != nil {
		return nil, err
	}
	if err := r.Client.List(ctx, pods, client.InNamespace(policy.Namespace), client.HasLabels{keys.CheckpointMode}); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if p := matching.CheckpointPolicyOf(pod.Labels, policies.Items); p != nil && p.UID == policy.UID && podspec.Asks(pod) && !podspec.HasEnded(pod) {
			mine = append(mine, pod)
		}
	}
	return mine, nil
}

func (r *Reconciler) tell(policy *v1alpha1.CheckpointPolicy, ready metav1.Condition) {
	kind := corev1.EventTypeWarning
	if ready.Status == metav1.ConditionTrue || ready.Reason == v1alpha1.CheckpointPolicyPaused {
		kind = corev1.EventTypeNormal
	}
	r.Recorder.Eventf(policy, nil, kind, ready.Reason, "Validate", "%s", v1alpha1.EventNote(ready.Message))
}
