package matching

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

const oneDigest, otherDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111", "sha256:2222"

// ranOn is a Checkpoint of a container "app" on a machine with those instructions and that kernel.
func ranOn(kernel, instructions string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		c.Status.Machine = &v1alpha1.CheckpointMachine{Architecture: "amd64", Kernel: kernel, PageSizeBytes: 4096, Instructions: instructions}
		c.Status.Containers = []v1alpha1.CheckpointContainer{{Name: "app", Image: "app:1", ImageDigest: oneDigest, MemoryBytes: new(int64(100 << 20))}}
	}
}

func withApp(limit string, pull corev1.PullPolicy) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.Container{Name: "app", Image: "app:1", ImagePullPolicy: pull}
		if limit != "" {
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)}
		}
		p.Spec.Containers = []corev1.Container{c}
	}
}

func compatibilityTests() map[string]choiceTest {
	here := &compat.Facts{Architecture: "amd64", Kernel: "6.1.5", PageSize: 4096, Instructions: "avx avx2"}
	one := func(change func(*v1alpha1.Checkpoint)) []v1alpha1.Checkpoint {
		return []v1alpha1.Checkpoint{of(newPod("a"), time.Minute, change)}
	}
	policy := func(c v1alpha1.RestoreCompatibility) *v1alpha1.RestorePolicy {
		return &v1alpha1.RestorePolicy{Spec: v1alpha1.RestorePolicySpec{Compatibility: c}}
	}
	app := newPod("new", withApp("", corev1.PullIfNotPresent))
	return map[string]choiceTest{
		"a machine that does":           {pod: app, machine: here, checkpoints: one(ranOn("6.1.9", "avx")), claim: "a-a-uid"},
		"a machine of which nothing is": {pod: app, machine: nil, checkpoints: one(ranOn("7.1", "amx")), claim: "a-a-uid"},
		"a processor that lacks some":   {pod: app, machine: here, checkpoints: one(ranOn("6.1.9", "avx512f")), cold: keys.ColdIncompatible},
		"a processor that may lack some": {
			pod: app, machine: here, policy: policy(v1alpha1.RestoreCompatibility{CPU: v1alpha1.CPUIgnore}), checkpoints: one(ranOn("6.1.9", "avx512f")),
			claim: "a-a-uid",
		},
		"an older kernel": {pod: app, machine: here, checkpoints: one(ranOn("6.12.1", "avx")), cold: keys.ColdIncompatible},
		"a kernel that may be older": {
			pod: app, machine: here, policy: policy(v1alpha1.RestoreCompatibility{Kernel: v1alpha1.KernelAny}), checkpoints: one(ranOn("6.12.1", "avx")),
			claim: "a-a-uid",
		},
		"a kernel that must be the same": {
			pod: app, machine: here, policy: policy(v1alpha1.RestoreCompatibility{Kernel: v1alpha1.KernelSame}), checkpoints: one(ranOn("5.10.1", "avx")),
			cold: keys.ColdIncompatible,
		},
		"a limit with room": {
			pod: newPod("new", withApp("100Mi", corev1.PullIfNotPresent)), machine: here, checkpoints: one(ranOn("6.1", "avx")), claim: "a-a-uid",
		},
		"a limit that is too small": {
			pod: newPod("new", withApp("99Mi", corev1.PullIfNotPresent)), machine: here, checkpoints: one(ranOn("6.1", "avx")), cold: keys.ColdIncompatible,
		},
		"a container less": {pod: newPod("new"), machine: here, checkpoints: one(ranOn("6.1", "avx")), cold: keys.ColdIncompatible},
		"the same image": {
			pod: app, machine: here, images: map[string]string{"app": oneDigest}, checkpoints: one(ranOn("6.1", "avx")), claim: "a-a-uid",
		},
		"another image of that name": {
			pod: app, machine: here, images: map[string]string{"app": otherDigest}, checkpoints: one(ranOn("6.1", "avx")), cold: keys.ColdIncompatible,
		},
		"an image that is pulled again": {
			pod: newPod("new", withApp("", corev1.PullAlways)), machine: here, images: map[string]string{"app": otherDigest},
			checkpoints: one(ranOn("6.1", "avx")), claim: "a-a-uid",
		},
		"an image that may be another": {
			pod: app, machine: here, images: map[string]string{"app": otherDigest}, checkpoints: one(ranOn("6.1", "avx")),
			policy: policy(v1alpha1.RestoreCompatibility{Image: v1alpha1.ImageIgnore}), claim: "a-a-uid",
		},
	}
}

func TestAMismatchNamesTheFieldWhatItHasAndWhatItMayBe(t *testing.T) {
	pod := newPod("new", withApp("99Mi", corev1.PullIfNotPresent))
	got := Choose(Facts{
		Pod: pod, Own: lineage.Of(pod), Checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Minute, ranOn("6.1", "avx"))}, Now: testNow,
		Here: func(*v1alpha1.Checkpoint) bool { return false },
	})
	want := `Checkpoint a-a-uid cannot go on here: memory limit of container "app": it is 99Mi; the captured processes have 100Mi of memory`
	if !strings.Contains(got.Message, want) {
		t.Errorf("it says %q", got.Message)
	}
}

func TestWhatANewPodIsExpectedToBeRestoredFrom(t *testing.T) {
	for name, test := range map[string]struct {
		pod              *corev1.Pod
		policy           *v1alpha1.RestorePolicy
		siblings         []corev1.Pod
		checkpoints      []v1alpha1.Checkpoint
		checkpoint, node string
	}{
		"nothing":                  {},
		"a Checkpoint":             {checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Minute)}, checkpoint: "a-a-uid"},
		"one that is claimed":      {checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Minute, claimedBy("x", v1alpha1.ClaimClaimed))}},
		"one that is on its way":   {siblings: []corev1.Pod{*newPod("a", going)}, node: "worker-1"},
		"a newer one on its way":   {siblings: []corev1.Pod{*newPod("b", going)}, checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Minute)}, node: "worker-1"},
		"one that it does not get": {pod: newPod("new", neverRestored), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Minute)}},
		"one that its policy does not give": {
			policy:      &v1alpha1.RestorePolicy{Spec: v1alpha1.RestorePolicySpec{Mode: v1alpha1.RestoreDisabled}},
			checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Minute)},
		},
	} {
		pod := test.pod
		if pod == nil {
			pod = newPod("new")
		}
		checkpoint, node := Expected(Facts{
			Pod: pod, Own: lineage.Of(pod), Policy: test.policy, Siblings: test.siblings, Checkpoints: test.checkpoints, Now: testNow,
			Here: func(*v1alpha1.Checkpoint) bool { return false },
		})
		got := ""
		if checkpoint != nil {
			got = checkpoint.Name
		}
		if got != test.checkpoint || node != test.node {
			t.Errorf("%s: %q, %q; want %q, %q", name, got, node, test.checkpoint, test.node)
		}
	}
}
