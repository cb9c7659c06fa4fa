package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Asks tells whether a pod is to be captured and restored, by what stands on the pod itself. What its Namespace says of it admission has written there.
func Asks(pod *corev1.Pod) bool { return written(pod, keys.CheckpointMode) == keys.True }

// StartsCold tells whether a pod is not to be restored, in the same way.
func StartsCold(pod *corev1.Pod) bool { return written(pod, keys.RestoreMode) == keys.False }

// RestoreFrom is the name of the Checkpoint that a pod is to begin from, as it is written; empty where it names none.
func RestoreFrom(pod *corev1.Pod) string { return written(pod, keys.RestoreFrom) }

// Asking keeps of pods those that ask. Those that may are found by the label CheckpointMode, whatever it says: see keys.CheckpointMode.
func Asking(pods []corev1.Pod) []corev1.Pod {
	return slices.DeleteFunc(pods, func(pod corev1.Pod) bool { return !Asks(&pod) })
}

// written is what a pod says under a key; its annotation goes before its label.
func written(pod *corev1.Pod, key string) string {
	if value, found := pod.Annotations[key]; found {
		return value
	}
	return pod.Labels[key]
}
