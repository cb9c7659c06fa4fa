package podspec

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// NotLive says why a pod cannot be captured while it goes on, now or later: one of the reasons of a Checkpoint's condition Captured, and a sentence. Both are
// empty for one that can be, or may be when it runs.
func NotLive(pod *corev1.Pod) (reason, message string) {
	switch {
	case !pod.DeletionTimestamp.IsZero() || IsDisrupted(pod):
		return v1alpha1.ReasonSourceTerminated, fmt.Sprintf("pod %s is being terminated: its last state is Checkpoint %s",
			pod.Name, v1alpha1.TerminationName(pod.Name, pod.UID))
	case HasEnded(pod):
		return v1alpha1.ReasonSourceExited, fmt.Sprintf("pod %s has ended", pod.Name)
	}
	if c := Condition(pod, keys.Checkpointable); c != nil && c.Status == corev1.ConditionFalse {
		return v1alpha1.ReasonSourceNotProtected, fmt.Sprintf("pod %s: %s: %s", pod.Name, c.Reason, c.Message)
	}
	if !IsProtected(pod) {
		return v1alpha1.ReasonSourceNotProtected, fmt.Sprintf("pod %s has not got the label %s: %q when it was made", pod.Name, keys.CheckpointMode, keys.True)
	}
	return "", ""
}

// Forgives is for how long a pod may stand still before kubelet restarts one of its captured containers, and by which probe of which container. Without a
// probe that could do so it is empty. A probe by exec is refused meanwhile, which kubelet does not count; but one that has begun ends with the freeze. One that
// only opens a connection is answered by the kernel.
func Forgives(pod *corev1.Pod) (forgiven time.Duration, probe string) {
	for _, c := range Selected(pod, nil) {
		p := c.LivenessProbe
		if p == nil || p.TCPSocket != nil {
			continue
		}
		threshold, period, timeout := max(p.FailureThreshold, 1), max(p.PeriodSeconds, 1), max(p.TimeoutSeconds, 1)
		if p.Exec != nil && threshold > 1 {
			continue
		}
		patience := time.Duration((threshold-1)*period+timeout) * time.Second
		if p.Exec != nil {
			patience = 0
		}
		if probe == "" || patience < forgiven {
			forgiven, probe = patience, fmt.Sprintf("liveness probe of container %q", c.Name)
		}
	}
	return forgiven, probe
}
