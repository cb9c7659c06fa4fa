package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// unselected are the containers that are neither captured nor restored unless a policy includes them: proxies of service meshes, whose state is of
// no use to another pod.
var unselected = []string{"istio-proxy", "nginx-proxy", "linkerd-proxy"}

// preparing are the init containers by which service meshes lead a pod's connections to their proxies.
var preparing = []string{"istio-init", "istio-validation", "linkerd-init", "linkerd-network-validator"}

// IsProxy tells of a container's name whether a service mesh has added it to the pod.
func IsProxy(name string) bool {
	return slices.Contains(unselected, name) || slices.Contains(preparing, name)
}

// Selected are the containers that are captured, within the pod: of those that run as long as it does the ones that the selection of its
// CheckpointPolicy asks for, or without one (nil) all but proxies.
func Selected(pod *corev1.Pod, selection *v1alpha1.ContainerSelection) []*corev1.Container {
	return slices.DeleteFunc(Lasting(pod), func(c *corev1.Container) bool {
		switch {
		case selection != nil && len(selection.Include) > 0:
			return !slices.Contains(selection.Include, c.Name)
		case selection != nil && slices.Contains(selection.Exclude, c.Name):
			return true
		}
		return slices.Contains(unselected, c.Name)
	})
}

// Lasting are the containers that run as long as the pod does, within it: sidecars, and the ones that are no init containers.
func Lasting(pod *corev1.Pod) (lasting []*corev1.Container) {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			lasting = append(lasting, c)
		}
	}
	for i := range pod.Spec.Containers {
		lasting = append(lasting, &pod.Spec.Containers[i])
	}
	return lasting
}
