package podspec

import corev1 "k8s.io/api/core/v1"

// PostStart are the names of the captured containers with a postStart hook. kubelet runs it also when the container is restored: for kubelet that is a
// start like any other.
func PostStart(pod *corev1.Pod) (names []string) {
	for _, c := range Selected(pod, nil) {
		if c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
			names = append(names, c.Name)
		}
	}
	return names
}
