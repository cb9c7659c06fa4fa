package podspec

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// IsProtected tells whether a pod runs under our runtime, by admission's doing: no other is captured or restored.
func IsProtected(pod *corev1.Pod) bool {
	class := pod.Spec.RuntimeClassName
	return pod.Annotations[keys.Effective] != "" && class != nil && keys.IsRuntimeClass(*class)
}

// IsPaused tells whether the agent of its node has said of a pod that it is not captured for the time being, and has told the runtime: by its
// policy, or by what is said for the whole operator.
func IsPaused(pod *corev1.Pod) bool {
	c := Condition(pod, keys.Checkpointable)
	return c != nil && c.Status == corev1.ConditionFalse && (c.Reason == keys.UnprotectedPaused || c.Reason == keys.UnprotectedNamespace)
}

// IsDisrupted tells whether a pod ended because it had to make room.
func IsDisrupted(pod *corev1.Pod) bool {
	if c := Condition(pod, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue {
		return true
	}
	return pod.Status.Phase == corev1.PodFailed && (pod.Status.Reason == "Evicted" || pod.Status.Reason == "Terminated" || pod.Status.Reason == "NodeShutdown")
}

// killed is the exit code of a process that got SIGKILL, as every captured one does.
const killed = 128 + 9

// IsGivenUp tells whether the kubelet ended a pod for good as a liveness or startup probe failed: nobody deleted it, it did not have to make room, and a
// container with such a probe was killed, as every captured one is.
func IsGivenUp(pod *corev1.Pod) bool {
	if pod.Status.Phase != corev1.PodFailed || pod.Status.Reason != "" || !pod.DeletionTimestamp.IsZero() || IsDisrupted(pod) {
		return false
	}
	return slices.ContainsFunc(Selected(pod, nil), func(c *corev1.Container) bool {
		return (c.LivenessProbe != nil || c.StartupProbe != nil) && slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
			return s.Name == c.Name && s.State.Terminated != nil && s.State.Terminated.ExitCode == killed
		})
	})
}

// EndedByItself tells whether a pod has ended in a way in which a captured one never does: none of its containers was killed.
func EndedByItself(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	return pod.Status.Phase == corev1.PodFailed && len(pod.Status.ContainerStatuses) > 0 &&
		!slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
			return s.State.Terminated == nil || s.State.Terminated.ExitCode == killed
		})
}

// HasEnded tells whether a pod's containers have ended for good, in whatever way.
func HasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Runs tells whether a container of a pod has a process. Pods whose containers only wait to be started have none.
func Runs(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses), func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil
	})
}

// DeletionBegan is when the deletion of a pod was asked for; the zero time if it was not. When kubelet is through with it, it is when that was: the API
// moves the timestamp then, and the grace period is 0.
func DeletionBegan(pod *corev1.Pod) time.Time {
	if pod.DeletionTimestamp.IsZero() {
		return time.Time{}
	}
	began := pod.DeletionTimestamp.Time
	if grace := pod.DeletionGracePeriodSeconds; grace != nil { // the timestamp is when that ends
		began = began.Add(-time.Duration(*grace) * time.Second)
	}
	return began
}

// BoundSince is when a pod got its node.
func BoundSince(pod *corev1.Pod) time.Time {
	if c := Condition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return pod.CreationTimestamp.Time
}

// Condition returns the condition of a pod; nil when it has none of that kind.
func Condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == kind {
			return c
		}
	}
	return nil
}
