package admission

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// minGrace is the grace period that a labelled pod has at least, in seconds: a capture takes time. A longer one stays.
const minGrace = 120

// unselected are the containers that are neither captured nor restored: proxies of service meshes, whose state is of no use to another pod.
var unselected = []string{"istio-proxy", "nginx-proxy", "linkerd-proxy"}

// Admit changes a pod that is being made. An error refuses it, and is for the user. It may be called again for a pod that it has changed,
// since other webhooks add containers after it.
func Admit(pod *corev1.Pod) error {
	if err := CheckLabels(pod.Labels); err != nil {
		return err
	}
	if err := checkAnnotations(pod.Annotations); err != nil {
		return err
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return nil // a picture of what kubelet runs already
	}
	earlier := pod.Annotations[keys.Effective]
	delete(pod.Annotations, keys.Effective)
	class := pod.Spec.RuntimeClassName
	if pod.Labels[keys.CheckpointMode] != keys.True || class != nil && *class != keys.RuntimeClass || lineage.SharesNamespaces(pod) {
		return nil
	}
	selected := selectedContainers(pod)
	if len(selected) == 0 {
		return nil
	}
	settings := capture.Settings{SchemaVersion: capture.SchemaVersion, AllowIOUring: pod.Annotations[keys.IOUring] == keys.IOUringAllow}
	for _, c := range selected {
		settings.Containers = append(settings.Containers, c.Name)
		if c.RestartPolicy != nil {
			settings.Sidecars = append(settings.Sidecars, c.Name)
		}
	}
	var err error
	if settings.VolumeSizeBytes, err = volumeSize(pod.Labels); err != nil {
		return err
	}
	settings.GracePeriodSeconds = minGrace
	if grace := pod.Spec.TerminationGracePeriodSeconds; grace != nil {
		settings.GracePeriodSeconds = max(*grace, minGrace)
	}
	if pod.Annotations[keys.KeepPreStop] != keys.True {
		settings.PreStop = takeHooks(selected, earlierHooks(earlier))
	}
	value, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[keys.Effective] = string(value)
	pod.Spec.TerminationGracePeriodSeconds = new(settings.GracePeriodSeconds)
	pod.Spec.RuntimeClassName = new(keys.RuntimeClass)
	return nil
}

// selectedContainers are those that are captured: they run as long as the pod does.
func selectedContainers(pod *corev1.Pod) []*corev1.Container {
	var selected []*corev1.Container
	add := func(c *corev1.Container) {
		if !slices.Contains(unselected, c.Name) {
			selected = append(selected, c)
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return selected
}
