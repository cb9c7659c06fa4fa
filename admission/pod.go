package admission

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// minGrace is the grace period that a labelled pod has at least, in seconds: a capture takes time. A longer one stays.
const minGrace = 120

// Warnings are what the user of an admitted pod should know, and may have to change. kubectl shows them.
func Warnings(pod *corev1.Pod, asked settings.Settings, policy *v1alpha1.CheckpointPolicy) (warnings []string) {
	effective, err := capture.ParseSettings(pod.Annotations[keys.Effective])
	if err != nil { // it has none
		return nil
	}
	if _, warning, err := asked.KeepIn(pod, podspec.Selected(pod, asked.Selection(policy))); err == nil && warning != "" {
		warnings = append(warnings, warning)
	}
	for _, name := range podspec.PostStart(pod) {
		warnings = append(warnings, fmt.Sprintf("container %q has a postStart hook, which kubelet runs again when the container is restored; "+
			"have it do no harm to a program that is in the middle of its work", name))
	}
	return append(warnings, asked.LostHooks(effective.Containers)...)
}

// Admit changes a pod that is being made. It may be called again for a pod that it has changed, since other webhooks add containers after it. asked is
// what the pod's keys come to, policy its CheckpointPolicy; nil is none.
func Admit(pod *corev1.Pod, asked settings.Settings, policy *v1alpha1.CheckpointPolicy) error {
	if isMirror(pod) {
		return nil // a picture of what kubelet runs already
	}
	earlier := pod.Annotations[keys.Effective]
	delete(pod.Annotations, keys.Effective)
	if !asked.Checkpoint {
		return nil
	}
	selection := asked.Selection(policy)
	if obstacle, _ := podspec.Obstacle(pod, selection); obstacle != "" {
		return nil // it runs as if it had asked for nothing; the manager says why
	}
	selected := podspec.Selected(pod, selection)
	effective := capture.Settings{SchemaVersion: capture.SchemaVersion}
	for _, c := range selected {
		effective.Containers = append(effective.Containers, c.Name)
		if c.RestartPolicy != nil {
			effective.Sidecars = append(effective.Sidecars, c.Name)
		}
	}
	asked.AddTo(&effective, policy)
	var err error
	if effective.StorageVolume, _, err = asked.KeepIn(pod, selected); err != nil {
		return err
	}
	effective.Eager = eagerContainers(pod, selected)
	effective.GracePeriodSeconds = minGrace
	if grace := pod.Spec.TerminationGracePeriodSeconds; grace != nil {
		effective.GracePeriodSeconds = max(*grace, minGrace)
	}
	if !asked.KeepPreStop {
		effective.PreStop = takeHooks(selected, earlierHooks(earlier))
	}
	value, err := json.Marshal(effective)
	if err != nil {
		return err
	}
	set(&pod.Annotations, keys.Effective, string(value))
	pod.Spec.TerminationGracePeriodSeconds = new(effective.GracePeriodSeconds)
	if pod.Spec.RuntimeClassName == nil { // one that it names itself is one of ours, or it would be left alone
		pod.Spec.RuntimeClassName = new(keys.RuntimeClass)
	}
	return nil
}

// mark writes onto a pod, as labels, what it asks for by its annotations or its Namespace does: by labels it is found, by its users and by us, and nobody
// has to read its Namespace. A label that is there stays, whatever it says: the pod's controller may select by it.
func mark(pod *corev1.Pod, asked settings.Settings) {
	if isMirror(pod) {
		return
	}
	if _, found := pod.Labels[keys.CheckpointMode]; !found && asked.Checkpoint {
		set(&pod.Labels, keys.CheckpointMode, keys.True)
	}
	if _, found := pod.Labels[keys.RestoreMode]; !found && asked.Checkpoint && asked.StartsCold {
		set(&pod.Labels, keys.RestoreMode, keys.False)
	}
	if asked.Checkpoint && asked.Interval != "" {
		set(&pod.Annotations, keys.CheckpointInterval, asked.Interval)
	}
}

func isMirror(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror
}

func set(values *map[string]string, key, value string) {
	if *values == nil {
		*values = map[string]string{}
	}
	(*values)[key] = value
}
