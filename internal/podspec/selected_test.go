package podspec

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestAPolicySelectsContainers(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "once"}, {Name: "side", RestartPolicy: &always}},
		Containers:     []corev1.Container{{Name: "app"}, {Name: "log"}, {Name: "istio-proxy"}},
	}}
	for name, test := range map[string]struct {
		selection *v1alpha1.ContainerSelection
		want      string
	}{
		"none":                             {want: `"side", "app", "log"`},
		"some are included":                {selection: &v1alpha1.ContainerSelection{Include: []string{"app"}}, want: `"app"`},
		"a proxy is included":              {selection: &v1alpha1.ContainerSelection{Include: []string{"istio-proxy", "app"}}, want: `"app", "istio-proxy"`},
		"one is left out besides the rest": {selection: &v1alpha1.ContainerSelection{Exclude: []string{"log"}}, want: `"side", "app"`},
		"one that there is not":            {selection: &v1alpha1.ContainerSelection{Exclude: []string{"web"}}, want: `"side", "app", "log"`},
		"one that has ended by then":       {selection: &v1alpha1.ContainerSelection{Include: []string{"once"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := NamesOf(Selected(pod, test.selection)); got != test.want {
				t.Errorf("selected are %s, want %s", got, test.want)
			}
		})
	}
}

func TestAGPUThatAPolicyLeavesOutIsNoObstacle(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}, {Name: "train"}}}}
	pod.Spec.Containers[1].Resources.Claims = []corev1.ResourceClaim{{Name: "card"}}
	if reason, _ := Obstacle(pod, &v1alpha1.ContainerSelection{Exclude: []string{"train"}}); reason != "" {
		t.Errorf("it says %s", reason)
	}
	if reason, _ := Obstacle(pod, &v1alpha1.ContainerSelection{Include: []string{"train"}}); reason != keys.UnprotectedResourceClaim {
		t.Errorf("it says %q", reason)
	}
	reason, message := Obstacle(pod, &v1alpha1.ContainerSelection{Include: []string{"web"}})
	if want := `its CheckpointPolicy, or memverge.ai/checkpoint-containers, selects none of its containers, which are "app", "train"; change that, or set ` +
		keys.CheckpointMode + ` to "false"`; reason != keys.UnprotectedNothingSelected || message != want {
		t.Errorf("it says %s: %s", reason, message)
	}
}
