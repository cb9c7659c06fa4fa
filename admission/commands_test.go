package admission

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// The hooks of keys and policies are in the annotation that the runtime reads, also when the pod comes by again. Whoever makes it is told of those that are
// lost.
func TestHooksOfKeysAndPolicies(t *testing.T) {
	policy := &v1alpha1.CheckpointPolicy{}
	policy.Spec.Containers = &v1alpha1.ContainerSelection{Include: []string{"app"}}
	policy.Spec.Hooks = &v1alpha1.CheckpointHooks{
		PreCheckpoint:  []v1alpha1.Hook{{Exec: v1alpha1.HookExec{Command: []string{"sync"}}}, {Container: "log", Exec: v1alpha1.HookExec{Command: []string{"x"}}}},
		PostCheckpoint: []v1alpha1.Hook{{Exec: v1alpha1.HookExec{Command: []string{"y"}}}},
	}
	pod := labelled(func(p *corev1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "log"})
		p.Annotations = map[string]string{keys.PostCheckpointHook: "z", keys.PostCheckpointHookContainer: "log"}
	})
	for range 2 {
		if err := admitIn(pod, settings.Namespace{}, policy); err != nil {
			t.Fatal(err)
		}
		got, err := capture.ParseSettings(pod.Annotations[keys.Effective])
		if err != nil {
			t.Fatal(err)
		}
		want := []capture.Command{{Words: []string{"sync"}, Timeout: 30 * time.Second}}
		if diff := cmp.Diff(want, got.PreCheckpoint); diff != "" || len(got.PostCheckpoint) > 0 || got.PostRestore != nil {
			t.Errorf("it says %+v (-want +got)\n%s", got, diff)
		}
	}
	asked, err := settings.Resolve(pod, settings.Namespace{})
	if err != nil {
		t.Fatal(err)
	}
	told := []string{"the hook of annotation memverge.ai/post-checkpoint-hook is not run: " +
		`container "log" of annotation memverge.ai/post-checkpoint-hook-container is not captured`}
	if diff := cmp.Diff(told, Warnings(pod, asked, nil)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
