package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// LastingVolumes returns the names of those volumes of a pod that a container can write to and that outlive the pod, in the order of its spec: their
// content is no part of a capture.
func LastingVolumes(pod *corev1.Pod) (names []string) {
	written := map[string]bool{}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, mount := range c.VolumeMounts {
			written[mount.Name] = written[mount.Name] || !mount.ReadOnly
		}
	}
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; written[v.Name] && lasts(v) {
			names = append(names, v.Name)
		}
	}
	return names
}

// lasts tells whether a volume is not made anew for each pod, and can be written to.
func lasts(v *corev1.Volume) bool {
	s := v.VolumeSource
	switch {
	case s.EmptyDir != nil || s.ConfigMap != nil || s.Secret != nil || s.DownwardAPI != nil || s.Projected != nil || s.Image != nil || s.Ephemeral != nil:
		return false
	case s.PersistentVolumeClaim != nil:
		return !s.PersistentVolumeClaim.ReadOnly
	}
	return true
}
