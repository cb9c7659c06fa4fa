package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// unselected are the containers that are neither captured nor restored: proxies of service meshes, whose state is of no use to another pod.
var unselected = []string{"istio-proxy", "nginx-proxy", "linkerd-proxy"}

// preparing are the init containers by which service meshes lead a pod's connections to their proxies.
var preparing = []string{"istio-init", "istio-validation", "linkerd-init", "linkerd-network-validator"}

// IsProxy tells of a container's name whether a service mesh has added it to the pod.
func IsProxy(name string) bool {
	return slices.Contains(unselected, name) || slices.Contains(preparing, name)
}

// Selected are the containers that are captured, within the pod: those that run as long as it does.
func Selected(pod *corev1.Pod) []*corev1.Container {
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
