package pod

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/jobs"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// mark gives a Job's pod that is terminated the condition DisruptionTarget before it has failed, so that its Job can tell it from one that failed.
// The agent does the same, and takes it back when the capture fails; so what is there is left alone, and the mark is made on the pod as it was
// read or not at all.
func (r *Reconciler) mark(ctx context.Context, pod *corev1.Pod) error {
	if !isCaptured(pod) {
		return nil
	}
	for jobs.IsToBeMarked(pod) {
		mark := jobs.Mark(r.Now())
		status := coreapply.PodStatus().WithConditions(coreapply.PodCondition().WithType(mark.Type).WithStatus(mark.Status).
			WithReason(mark.Reason).WithMessage(mark.Message).WithLastTransitionTime(mark.LastTransitionTime))
		wanted := coreapply.Pod(pod.Name, pod.Namespace).WithUID(pod.UID).WithResourceVersion(pod.ResourceVersion).WithStatus(status)
		err := r.Status().Apply(ctx, wanted, client.FieldOwner(keys.DisruptionFields), client.ForceOwnership)
		if !apierrors.IsConflict(err) {
			return client.IgnoreNotFound(err)
		}
		live := &corev1.Pod{} // it has changed since; the watch would tell, but there may be little time
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(pod), live); err != nil {
			return client.IgnoreNotFound(err)
		}
		if live.UID != pod.UID {
			return nil
		}
		if live.ResourceVersion == pod.ResourceVersion {
			return err
		}
		pod = live
	}
	return nil
}

// isCaptured tells whether a pod is being terminated whose processes the runtime captures.
func isCaptured(pod *corev1.Pod) bool {
	return !pod.DeletionTimestamp.IsZero() && mayBeCaptured(pod)
}
