package jobs

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Of returns the reference to the Job that a pod belongs to; nil for all other pods.
func Of(pod *corev1.Pod) *metav1.OwnerReference {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "Job" || owner.APIVersion != batchv1.SchemeGroupVersion.String() {
		return nil
	}
	return owner
}

// IsToBeMarked tells whether a pod that runs, or is being captured, is to get the condition DisruptionTarget: it is a Job's, it is being deleted,
// and it goes for that reason and not by itself. Where there is the condition already, by whomever and whatever it says, it stays.
func IsToBeMarked(pod *corev1.Pod) bool {
	return isJudged(pod) && podspec.Condition(pod, corev1.DisruptionTarget) == nil && !endedByItself(pod)
}

// IsToBeUnmarked tells whether a pod whose capture failed is to get that condition with the status False: it ends now as it would have without
// us, and counts as it would have. What others wrote stays.
func IsToBeUnmarked(pod *corev1.Pod) bool {
	c := podspec.Condition(pod, corev1.DisruptionTarget)
	return isJudged(pod) && (c == nil || c.Status == corev1.ConditionTrue && c.Reason == keys.DisruptionWithCheckpoint)
}

// Mark is the condition of a pod that is captured. It needs the current time: the disruption controller takes back an older one.
func Mark(now time.Time) corev1.PodCondition {
	return corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: keys.DisruptionWithCheckpoint,
		Message: "the pod is deleted, and its state is captured for its successor", LastTransitionTime: metav1.NewTime(now),
	}
}

// Unmark is the condition of a pod whose capture failed.
func Unmark(now time.Time) corev1.PodCondition {
	return corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, Reason: keys.DisruptionCaptureFailed,
		Message: "the pod is deleted, and its state could not be captured: it ends as a pod without a checkpoint does", LastTransitionTime: metav1.NewTime(now),
	}
}

// isJudged tells whether the Job controller has still to find out what became of a pod that is being deleted. It takes its finalizer off when it
// has, or when the pod does not matter to it.
func isJudged(pod *corev1.Pod) bool {
	return Of(pod) != nil && !pod.DeletionTimestamp.IsZero() && IsTracked(pod) && !podspec.HasEnded(pod)
}

// IsTracked tells whether the Job controller has its finalizer on a pod: it has not counted the pod yet, or notes it in the Job at most.
func IsTracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

// endedByItself tells whether a container that is not started again had failed before the deletion was asked for: that decided the pod's end.
func endedByItself(pod *corev1.Pod) bool {
	if pod.Spec.RestartPolicy != corev1.RestartPolicyNever {
		return false
	}
	asked := podspec.DeletionBegan(pod)
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		end := s.State.Terminated
		return end != nil && end.ExitCode != 0 && end.FinishedAt.Time.Before(asked) && !restarts(pod, s.Name)
	})
}

// restarts tells whether a container has a restart policy of its own.
func restarts(pod *corev1.Pod, container string) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == container && c.RestartPolicy != nil })
}
