package pod

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/origin"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// terminated makes the Checkpoint of a pod that is terminated. The agent makes it when we were away; both make the same.
func (r *Reconciler) terminated(ctx context.Context, pod *corev1.Pod) error {
	if !isCaptured(pod) {
		return nil
	}
	return r.keep(ctx, pod, "the pod is being terminated")
}

// keep makes the Checkpoint of a pod, and says why.
func (r *Reconciler) keep(ctx context.Context, pod *corev1.Pod, why string) error {
	policy, err := r.policyOf(ctx, pod)
	if err != nil {
		return err
	}
	checkpoint, source := lineage.TerminationCheckpoint(pod)
	if checkpoint.Spec.Trigger == v1alpha1.TriggerEviction {
		node := &corev1.Node{}
		if err := r.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, node); client.IgnoreNotFound(err) != nil {
			return err
		}
		checkpoint.Spec.Trigger = lineage.TriggerOf(pod, node)
	}
	lineage.Outlive(checkpoint, v1alpha1.RetentionOf(policy))
	switch err := r.Create(ctx, checkpoint); {
	case err == nil:
		r.Events.Eventf(pod, checkpoint, corev1.EventTypeNormal, "CheckpointRequested", "Checkpoint", "its state is kept as Checkpoint %s", checkpoint.Name)
	case going(err):
		return nil
	case !apierrors.IsAlreadyExists(err):
		return err
	default:
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(checkpoint), checkpoint); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	if checkpoint.Status.Source != nil {
		return nil
	}
	pending := metaapply.Condition().WithType(v1alpha1.CheckpointReady).WithStatus(metav1.ConditionFalse).WithReason(v1alpha1.StatePending).
		WithMessage(why).WithLastTransitionTime(r.now())
	status := apply.CheckpointStatus().WithSource(origin.Apply(source)).WithConditions(pending)
	return client.IgnoreNotFound(r.Status().Apply(ctx, apply.Checkpoint(checkpoint.Name, checkpoint.Namespace).WithStatus(status),
		client.FieldOwner(keys.ManagerFields), client.ForceOwnership))
}

// mayBeCaptured tells whether a pod has something that its stop signal captures.
func mayBeCaptured(pod *corev1.Pod) bool {
	return !podspec.HasEnded(pod) && podspec.IsProtected(pod) && !podspec.IsPaused(pod) && podspec.Runs(pod)
}
