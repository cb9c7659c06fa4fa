package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// leaveAlone has a pod of a namespace that is not allowed run as if it had no label. The reserved annotation goes, whoever wrote it.
func leaveAlone(pod *corev1.Pod, asked settings.Settings, namespace string) (warnings []string) {
	if isMirror(pod) {
		return nil
	}
	delete(pod.Annotations, keys.Effective)
	if asked.Checkpoint {
		warnings = []string{fmt.Sprintf("%s does nothing here: %s", keys.CheckpointMode, operator.NotAllowed(namespace))}
	}
	return warnings
}
