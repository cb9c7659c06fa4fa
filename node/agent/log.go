package agent

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// aboutCapture are the keys and values by which a log tells whose a capture is: all that is said of a capture or a restore names its Checkpoint.
func aboutCapture(record *capture.Capture) []any {
	return []any{"checkpoint", keyOf(record).Name, "namespace", record.Pod.Namespace, "pod", record.Pod.Name}
}

// aboutPod are those for a pod of which only the UID is known: by its note, if there is one.
func (a *Agent) aboutPod(podUID string) []any {
	keys := []any{"podUID", podUID}
	n, known, err := a.noteOf(capture.Pod{UID: podUID})
	if err != nil || !known {
		return keys
	}
	return append(keys, "namespace", n.Checkpoint.Namespace, "pod", n.Checkpoint.Spec.SourcePodName)
}

// aboutDecision has the log name the Checkpoint that a pod goes on from, if there is one. The pod's namespace is in it already.
func aboutDecision(ctx context.Context, pod *corev1.Pod, d *capture.Decision) context.Context {
	log := ctrl.LoggerFrom(ctx).WithValues("pod", pod.Name)
	if d.Checkpoint != "" {
		log = log.WithValues("checkpoint", d.Checkpoint)
	}
	return ctrl.LoggerInto(ctx, log)
}
