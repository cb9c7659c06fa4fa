package agent

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/jobs"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// judgeEnd says by the condition DisruptionTarget of a Job's pod whether its end is a capture's doing, as far as the capture has come: it is, until
// the capture fails. The pod learns of a failure before its processes get their stop signal, or soon after.
func (a *Agent) judgeEnd(ctx context.Context, record *capture.Capture) error {
	if record.Trigger.IsLive() { // it is none's end
		return nil
	}
	pod := &corev1.Pod{}
	err := a.Client.Get(ctx, client.ObjectKey{Namespace: record.Pod.Namespace, Name: record.Pod.Name}, pod)
	switch {
	case err != nil:
		return client.IgnoreNotFound(err)
	case string(pod.UID) != record.Pod.UID:
		return nil
	case record.State == capture.Failed:
		return a.unmark(ctx, pod)
	}
	return a.mark(ctx, pod)
}

// mark gives a Job's pod that is being deleted the condition DisruptionTarget before it has failed. The manager does the same.
func (a *Agent) mark(ctx context.Context, pod *corev1.Pod) error {
	return a.disrupt(ctx, pod, jobs.IsToBeMarked, jobs.Mark(a.Now()))
}

// unmark takes that back, as the capture failed.
func (a *Agent) unmark(ctx context.Context, pod *corev1.Pod) error {
	return a.disrupt(ctx, pod, jobs.IsToBeUnmarked, jobs.Unmark(a.Now()))
}

// disrupt writes a condition as long as isDue says so of the pod that it is written to: of the pod as it was read, or not at all.
func (a *Agent) disrupt(ctx context.Context, pod *corev1.Pod, isDue func(*corev1.Pod) bool, c corev1.PodCondition) error {
	for isDue(pod) {
		status := corev1apply.PodStatus().WithConditions(corev1apply.PodCondition().WithType(c.Type).WithStatus(c.Status).
			WithReason(c.Reason).WithMessage(c.Message).WithLastTransitionTime(c.LastTransitionTime))
		wanted := corev1apply.Pod(pod.Name, pod.Namespace).WithUID(pod.UID).WithResourceVersion(pod.ResourceVersion).WithStatus(status)
		err := a.Client.Status().Apply(ctx, wanted, client.FieldOwner(keys.DisruptionFields), client.ForceOwnership)
		if !apierrors.IsConflict(err) {
			return client.IgnoreNotFound(err)
		}
		live := &corev1.Pod{} // it has changed since; the watch would tell, but there may be little time
		if err := a.Everywhere.Get(ctx, client.ObjectKeyFromObject(pod), live); err != nil {
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

// triggerOf tells why a captured pod was terminated, as far as that can be seen.
func (a *Agent) triggerOf(ctx context.Context, of capture.Pod) v1alpha1.CheckpointTrigger {
	pod, node := &corev1.Pod{}, &corev1.Node{}
	if err := a.Client.Get(ctx, client.ObjectKey{Namespace: of.Namespace, Name: of.Name}, pod); err != nil || string(pod.UID) != of.UID {
		return v1alpha1.TriggerTermination
	}
	trigger := lineage.TriggerOf(pod, nil)
	if trigger == v1alpha1.TriggerEviction && a.Client.Get(ctx, client.ObjectKey{Name: a.NodeName}, node) == nil {
		trigger = lineage.TriggerOf(pod, node)
	}
	return trigger
}
