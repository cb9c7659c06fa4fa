package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
)

func inOther(p *corev1.Pod) { p.Namespace = "other" }

// Nothing that a pod's author writes gets him at what a pod of another namespace left: neither the UID of its owner, nor its name, nor a policy.
func TestNothingOfAnotherNamespaceIsSeen(t *testing.T) {
	t.Parallel()
	victim := newPod("a")
	checkpoint := v1alpha1.TerminationName(victim.Name, victim.UID)
	policy := &v1alpha1.RestorePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "thief"}, Spec: v1alpha1.RestorePolicySpec{
		Selector: &metav1.LabelSelector{}, Source: v1alpha1.RestoreNamed, CheckpointName: checkpoint,
	}}
	for what, test := range map[string]struct {
		change func(*corev1.Pod)
		policy bool
		cold   string
	}{
		"by the UID of its owner":   {change: func(*corev1.Pod) {}, cold: keys.ColdNoCheckpoint},
		"by its own name":           {change: func(p *corev1.Pod) { p.OwnerReferences, p.Name = nil, victim.Name }, cold: keys.ColdNoCheckpoint},
		"by the Checkpoint's name":  {change: func(p *corev1.Pod) { p.Annotations[keys.RestoreFrom] = checkpoint }, cold: keys.ColdCheckpointNotFound},
		"by a policy that names it": {change: func(*corev1.Pod) {}, policy: true, cold: keys.ColdCheckpointNotFound},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := uploaded(t)
			if test.policy {
				if err := b.Client.Create(t.Context(), policy.DeepCopy()); err != nil {
					t.Fatal(err)
				}
			}
			thief := newPod("new", inOther, test.change)
			f, err := b.gather(t.Context(), thief)
			if err != nil {
				t.Fatal(err)
			}
			got := matching.Choose(f)
			if len(f.Checkpoints) > 0 || got.Claim != nil || got.Begin != nil || got.Wait != "" || got.Cold != test.cold {
				t.Errorf("of %d Checkpoints it is %+v", len(f.Checkpoints), got)
			}
			if own, err := b.gather(t.Context(), newPod("own")); err != nil || own.Policy != nil && own.Policy.Namespace == "other" {
				t.Errorf("a pod beside it has the policy %+v, %v", own.Policy, err)
			}
		})
	}
}

// A pod does not wait for what one of another namespace leaves, and so does not learn of it.
func TestACaptureOfAnotherNamespaceIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	victim := newPod("a")
	b := newBench(t)
	if err := b.takeNote(victim); err != nil {
		t.Fatal(err)
	}
	b.captured(victim, "1", capture.Complete)
	for namespace, want := range map[string]int{"default": 1, "other": 0} {
		f, err := b.gather(t.Context(), newPod("new", func(p *corev1.Pod) { p.Namespace = namespace }))
		if err != nil || len(f.Unpublished) != want {
			t.Errorf("a pod in %s knows of %d, should of %d: %v", namespace, len(f.Unpublished), want, err)
		}
	}
}

// Who may write the status of a Checkpoint in his namespace does not get at what a pod of another left on this node.
func TestAStateOfAnotherNamespaceIsNotHere(t *testing.T) {
	t.Parallel()
	pod := newPod("a")
	b := newBench(t)
	b.captured(pod, "1", capture.Complete)
	c, source := lineage.TerminationCheckpoint(pod)
	c.Status.Source = &source
	if b.localState(c) == "" {
		t.Fatal("its own is not found")
	}
	c.Namespace = "other"
	if dir := b.localState(c); dir != "" {
		t.Errorf("it is found in %s", dir)
	}
	if record, err := b.fetch(t.Context(), newPod("new", inOther), c); err == nil {
		t.Errorf("it is brought: %+v", record)
	}
}
