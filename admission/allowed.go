package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

// leaveAlone has a pod of a namespace that is not allowed run as if it had no label. The reserved annotation goes, whoever wrote it.
func leaveAlone(pod *corev1.Pod, namespace string) (warnings []string, err error) {
	if err := CheckLabels(pod.Labels); err != nil {
		return nil, err
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return nil, nil
	}
	delete(pod.Annotations, keys.Effective)
	if pod.Labels[keys.CheckpointMode] == keys.True {
		warnings = []string{fmt.Sprintf("the label %s does nothing here: %s", keys.CheckpointMode, operator.NotAllowed(namespace))}
	}
	return warnings, nil
}
