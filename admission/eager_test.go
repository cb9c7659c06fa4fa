package admission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestContainersAreEagerWhenKubeletWaitsForTheirWork(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	sidecar := func(name string) corev1.Container { return corev1.Container{Name: name, RestartPolicy: &always} }
	started := sidecar("started")
	started.StartupProbe = &corev1.Probe{}
	hooked := corev1.Container{Name: "hooked", Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}}
	plain, once := corev1.Container{Name: "plain"}, corev1.Container{Name: "once"}
	for name, test := range map[string]struct {
		init, main []corev1.Container
		want       []string
	}{
		"none":                            {main: []corev1.Container{plain}},
		"a sidecar":                       {init: []corev1.Container{sidecar("a")}, main: []corev1.Container{plain}},
		"a sidecar with a startup probe":  {init: []corev1.Container{started}, main: []corev1.Container{plain}, want: []string{"started"}},
		"sidecars around an init":         {init: []corev1.Container{sidecar("a"), once, sidecar("b")}, main: []corev1.Container{plain}, want: []string{"a"}},
		"a container with postStart":      {main: []corev1.Container{plain, hooked}, want: []string{"hooked"}},
		"an init container with no other": {init: []corev1.Container{once}, main: []corev1.Container{plain}},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: test.init, Containers: test.main}}
		var selected []*corev1.Container
		for i := range test.init {
			if test.init[i].RestartPolicy != nil {
				selected = append(selected, &test.init[i])
			}
		}
		for i := range test.main {
			selected = append(selected, &test.main[i])
		}
		if diff := cmp.Diff(test.want, eagerContainers(pod, selected)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}
