package admission

import (
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/periodic"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// minGrace is the grace period that a labelled pod has at least, in seconds: a capture takes time. A longer one stays.
const minGrace = 120

// Warnings are what the user of an admitted pod should know, and may have to change. kubectl shows them.
func Warnings(pod *corev1.Pod) []string {
	if pod.Annotations[keys.Effective] == "" {
		return nil
	}
	var warnings []string
	for _, name := range podspec.PostStart(pod) {
		warnings = append(warnings, fmt.Sprintf("container %q has a postStart hook, which kubelet runs again when the container is restored; "+
			"have it do no harm to a program that is in the middle of its work", name))
	}
	return warnings
}

// Admit changes a pod that is being made. An error refuses it, and is for the user. It may be called again for a pod that it has changed,
// since other webhooks add containers after it. policy is the CheckpointPolicy of the pod; nil is none.
func Admit(pod *corev1.Pod, policy *v1alpha1.CheckpointPolicy) error {
	if err := CheckLabels(pod.Labels); err != nil {
		return err
	}
	if err := checkAnnotations(pod.Annotations); err != nil {
		return err
	}
	if _, err := periodic.Interval(pod); err != nil {
		return err
	}
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return nil // a picture of what kubelet runs already
	}
	earlier := pod.Annotations[keys.Effective]
	delete(pod.Annotations, keys.Effective)
	if pod.Labels[keys.CheckpointMode] != keys.True {
		return nil
	}
	var selection *v1alpha1.ContainerSelection
	if policy != nil {
		selection = policy.Spec.Containers
	}
	if obstacle, _ := podspec.Obstacle(pod, selection); obstacle != "" {
		return nil // it runs as if it had no label; the manager says why
	}
	selected := podspec.Selected(pod, selection)
	settings := capture.Settings{SchemaVersion: capture.SchemaVersion, AllowIOUring: pod.Annotations[keys.IOUring] == keys.IOUringAllow}
	for _, c := range selected {
		settings.Containers = append(settings.Containers, c.Name)
		if c.RestartPolicy != nil {
			settings.Sidecars = append(settings.Sidecars, c.Name)
		}
	}
	settings.TCPEstablished = strings.Contains(pod.Annotations[keys.AdvancedOptions], keys.TCPEstablished)
	settings.Eager = eagerContainers(pod, selected)
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
