package restorepolicy

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/condition"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Reconciler writes the conditions of RestorePolicies.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Now      func() time.Time
}

// SetUp adds the reconciler to the manager.
func SetUp(manager ctrl.Manager) error {
	r := &Reconciler{Client: manager.GetClient(), Recorder: manager.GetEventRecorder("checkpoint-manager"), Now: time.Now}
	changed := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	return ctrl.NewControllerManagedBy(manager).Named("restorepolicy").For(&v1alpha1.RestorePolicy{}, changed).
		Watches(&v1alpha1.RestorePolicy{}, handler.EnqueueRequestsFromMapFunc(r.neighbours), changed).
		Watches(&corev1.Pod{}, r.podHandler(), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		Complete(r)
}

// Reconcile brings the status of one policy up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	policy := &v1alpha1.RestorePolicy{}
	if err := r.Client.Get(ctx, request.NamespacedName, policy); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !policy.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	overruled, err := r.overruled(ctx, policy)
	if err != nil {
		return ctrl.Result{}, err
	}
	wanted := []metav1.Condition{judge(policy), overruled}
	changed := policy.Status.ObservedGeneration != policy.Generation
	status := apply.RestorePolicyStatus().WithObservedGeneration(policy.Generation)
	for _, c := range wanted {
		changed = changed || condition.Changed(policy.Status.Conditions, c)
		status.WithConditions(condition.Apply(policy.Status.Conditions, c, r.Now()))
	}
	if !changed {
		return ctrl.Result{}, nil
	}
	err = r.Client.Status().Apply(ctx, apply.RestorePolicy(policy.Name, policy.Namespace).WithUID(policy.UID).WithStatus(status),
		client.FieldOwner(keys.ManagerFields), client.ForceOwnership)
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	for _, c := range wanted {
		r.tell(policy, c)
	}
	return ctrl.Result{}, nil
}

// tell says what a condition has become by an event, unless it is what it was. That a policy is not overruled is news only when it was.
func (r *Reconciler) tell(policy *v1alpha1.RestorePolicy, c metav1.Condition) {
	old := meta.FindStatusCondition(policy.Status.Conditions, c.Type)
	isNews := old == nil || old.Reason != c.Reason || c.Reason == v1alpha1.RestorePolicyAnotherFirst && old.Message != c.Message
	if !isNews || old == nil && c.Reason == v1alpha1.RestorePolicyOnly {
		return
	}
	kind := corev1.EventTypeNormal
	if c.Reason == v1alpha1.RestorePolicyInvalidSelector || c.Reason == v1alpha1.RestorePolicyAnotherFirst && policy.Spec.Selector != nil {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(policy, nil, kind, c.Reason, "Validate", "%s", v1alpha1.EventNote(c.Message))
}

// judge says whether the policy applies.
func judge(policy *v1alpha1.RestorePolicy) metav1.Condition {
	ready := metav1.Condition{Type: v1alpha1.RestorePolicyReady, Status: metav1.ConditionFalse, ObservedGeneration: policy.Generation}
	if policy.Spec.Selector != nil {
		if _, err := metav1.LabelSelectorAsSelector(policy.Spec.Selector); err != nil {
			ready.Reason, ready.Message = v1alpha1.RestorePolicyInvalidSelector, fmt.Sprintf("it applies to no pod: %v", err)
			return ready
		}
	}
	if policy.Spec.Mode == v1alpha1.RestoreDisabled {
		ready.Reason, ready.Message = v1alpha1.RestorePolicyDisabled, "new pods start cold, as mode says"
		return ready
	}
	ready.Status, ready.Reason, ready.Message = metav1.ConditionTrue, v1alpha1.RestorePolicyActive, "new pods are restored when there is a Checkpoint for them"
	return ready
}
