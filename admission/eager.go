package admission

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// eagerContainers are those of the selected ones for whose work kubelet waits before it makes the next container: held after a restore, they
// would keep their own pod waiting.
func eagerContainers(pod *corev1.Pod, selected []*corev1.Container) (names []string) {
	lastInit := "" // of the init containers that run to their end
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			lastInit = c.Name
		}
	}
	before := lastInit != ""
	for _, c := range pod.Spec.InitContainers {
		isSidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		if isSidecar && (before || c.StartupProbe != nil) {
			names = append(names, c.Name)
		}
		before = before && c.Name != lastInit
	}
	for _, c := range selected {
		if c.Lifecycle != nil && c.Lifecycle.PostStart != nil && !slices.Contains(names, c.Name) {
			names = append(names, c.Name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return !slices.ContainsFunc(selected, func(c *corev1.Container) bool { return c.Name == name })
	})
}
