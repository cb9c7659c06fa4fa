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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/condition"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Reconciler writes the condition Ready of RestorePolicies.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Now      func() time.Time
}

// SetUp adds the reconciler to the manager.
func SetUp(manager ctrl.Manager) error {
	r := &Reconciler{Client: manager.GetClient(), Recorder: manager.GetEventRecorder("checkpoint-manager"), Now: time.Now}
	return ctrl.NewControllerManagedBy(manager).Named("restorepolicy").For(&v1alpha1.RestorePolicy{}).Complete(r)
}

// Reconcile brings the status of one policy up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	policy := &v1alpha1.RestorePolicy{}
	if err := r.Client.Get(ctx, request.NamespacedName, policy); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	ready := judge(policy)
	if !policy.DeletionTimestamp.IsZero() || !condition.Changed(policy.Status.Conditions, ready) && policy.Status.ObservedGeneration == policy.Generation {
		return ctrl.Result{}, nil
	}
	status := apply.RestorePolicyStatus().WithObservedGeneration(policy.Generation).
		WithConditions(condition.Apply(policy.Status.Conditions, ready, r.Now()))
	wanted := apply.RestorePolicy(policy.Name, policy.Namespace).WithUID(policy.UID).WithStatus(status)
	if err := r.Client.Status().Apply(ctx, wanted, client.FieldOwner(keys.ManagerFields), client.ForceOwnership); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if old := meta.FindStatusCondition(policy.Status.Conditions, ready.Type); old == nil || old.Reason != ready.Reason {
		r.tell(policy, ready)
	}
	return ctrl.Result{}, nil
}

func (r *Reconciler) tell(policy *v1alpha1.RestorePolicy, ready metav1.Condition) {
	kind := corev1.EventTypeNormal
	if ready.Reason == v1alpha1.RestorePolicyInvalidSelector {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(policy, nil, kind, ready.Reason, "Validate", "%s", ready.Message)
}

// judge is the rule.
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
