package matching

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// beginsFrom has a pod begin from what the pod of that name left.
func beginsFrom(pod string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[keys.RestoreFrom] = pod + "-" + pod + "-uid" }
}

// another is a pod of another workload.
func another(name string) *corev1.Pod {
	return newPod(name, ownedBy("StatefulSet", "db"), revision("9"))
}

func TestAPodBeginsFromTheCheckpointThatItNames(t *testing.T) {
	all := func(all ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return all }
	clone := newPod("new", beginsFrom("a"))
	testChoices(t, map[string]choiceTest{
		"of another workload": {pod: clone, checkpoints: all(of(another("a"), time.Minute)), begin: "a-a-uid"},
		"of its own":          {pod: clone, checkpoints: all(of(newPod("a"), time.Minute)), begin: "a-a-uid"},
		"of another revision": {pod: clone, checkpoints: all(of(newPod("a", revision("2")), time.Minute)), begin: "a-a-uid"},
		"by its label": {
			pod: newPod("new", func(p *corev1.Pod) { p.Labels[keys.RestoreFrom] = "a-a-uid" }), checkpoints: all(of(another("a"), 0)), begin: "a-a-uid",
		},
		"which another pod has":       {pod: clone, checkpoints: all(of(another("a"), 0, claimedBy("x", v1alpha1.ClaimClaimed))), begin: "a-a-uid"},
		"which another pod went from": {pod: clone, checkpoints: all(of(another("a"), time.Minute, consumedBy("x"))), begin: "a-a-uid"},
		"however old it is":           {pod: clone, checkpoints: all(of(another("a"), 1000*time.Hour)), begin: "a-a-uid"},
		"of a pod that goes on": {
			pod: clone, siblings: []corev1.Pod{*newPod("a", running)}, checkpoints: all(of(newPod("a"), time.Minute, milestone("a-a-uid"))), begin: "a-a-uid",
		},
		"on this node":   {pod: clone, checkpoints: all(of(another("a"), 0, notUploaded)), here: "a-uid", begin: "a-a-uid"},
		"being uploaded": {pod: clone, checkpoints: all(of(another("a"), 0, notUploaded)), wait: "waiting for the upload of Checkpoint a-a-uid from worker-1"},
		"being captured": {pod: clone, checkpoints: all(of(another("a"), 0, dumping)), wait: "waiting for the capture of pod a, Checkpoint a-a-uid"},
		"never captured": {pod: newPod("new", boundLongAgo, beginsFrom("a")), checkpoints: all(of(another("a"), 0, dumping)), cold: keys.ColdWaitTimeout},
		"which is gone": {
			pod: clone, cold: keys.ColdCheckpointNotFound,
			says: []string{"memverge.ai/restore-from names Checkpoint a-a-uid", "namespace default"},
		},
		"which a probe gave up": {pod: clone, checkpoints: all(of(another("a"), 0, byProbe)), begin: "a-a-uid"},
		"which failed":          {pod: clone, checkpoints: all(of(another("a"), 0, failed)), cold: keys.ColdCheckpointNotReady, says: []string{"DumpFailed"}},
		"being deleted":         {pod: clone, checkpoints: all(of(another("a"), 0, deleted)), cold: keys.ColdCheckpointNotReady},
		"which expired":         {pod: clone, checkpoints: all(of(another("a"), 0, expired)), cold: keys.ColdCheckpointNotReady},
		"of another pod's containers": {
			pod: clone, checkpoints: all(of(another("a"), 0, with("main"))), cold: keys.ColdIncompatible,
			says: []string{`no "main"`, "memverge.ai/restore-from names it"},
		},
		"of another machine": {
			pod: clone, machine: &compat.Facts{Architecture: "arm64"}, cold: keys.ColdIncompatible,
			checkpoints: all(of(another("a"), 0, func(c *v1alpha1.Checkpoint) { c.Status.Machine = &v1alpha1.CheckpointMachine{Architecture: "amd64"} })),
		},
		"which its policy does not let start cold": {pod: clone, policy: policy(failing), refuse: keys.ColdCheckpointNotFound},
		"before what its policy names": {
			pod: clone, policy: policy(naming("b")), checkpoints: all(of(another("a"), time.Minute), of(newPod("b"), 0)), begin: "a-a-uid",
		},
		"but not when it is to start cold": {
			pod: newPod("new", beginsFrom("a"), neverRestored), checkpoints: all(of(another("a"), 0)), cold: keys.ColdRestoreDisabled,
		},
		"but not with a volume that has gone on": {
			pod: newPod("new", beginsFrom("a"), onClaim), checkpoints: all(of(another("a"), 0)), cold: keys.ColdVolumeAdvanced,
			says: []string{`volume "data"`, "volumeChanges"},
		},
		"with a volume that may have": {
			pod: newPod("new", beginsFrom("a"), onClaim), checkpoints: all(of(another("a"), 0)), begin: "a-a-uid",
			policy: policy(func(s *v1alpha1.RestorePolicySpec) { s.VolumeChanges = v1alpha1.VolumeChangesRestore }),
		},
		"of no name that could be": {pod: newPod("new", func(p *corev1.Pod) { p.Annotations[keys.RestoreFrom] = "A/b" }), cold: keys.ColdCheckpointNotFound},
	})
}

func TestAClonesSuccessorGoesOnFromWhatItLeft(t *testing.T) {
	all := func(all ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return all }
	clone, first := newPod("new", beginsFrom("a")), of(another("a"), time.Hour)
	testChoices(t, map[string]choiceTest{
		"what its predecessor left": {pod: clone, checkpoints: all(first, of(newPod("old", beginsFrom("a")), time.Minute)), claim: "old-old-uid"},
		"another has taken that":    {pod: clone, checkpoints: all(first, of(newPod("old", beginsFrom("a")), time.Minute, consumedBy("x"))), begin: "a-a-uid"},
		"that failed":               {pod: clone, checkpoints: all(first, of(newPod("old", beginsFrom("a")), time.Minute, failed)), begin: "a-a-uid"},
		"that is too old":           {pod: clone, checkpoints: all(first, of(newPod("old", beginsFrom("a")), 48*time.Hour)), begin: "a-a-uid"},
		"its predecessor is going": {
			pod: clone, siblings: []corev1.Pod{*newPod("old", beginsFrom("a"), going)}, checkpoints: all(first), wait: "waiting for the capture of pod old on worker-1",
		},
		"that is being uploaded": {
			pod: clone, checkpoints: all(first, of(newPod("old", beginsFrom("a")), time.Minute, notUploaded)),
			wait: "waiting for the upload of Checkpoint old-old-uid from worker-1",
		},
		"a pod of before is going":             {pod: clone, siblings: []corev1.Pod{*newPod("old", going)}, checkpoints: all(first), begin: "a-a-uid"},
		"a pod of before left something newer": {pod: clone, checkpoints: all(first, of(newPod("old"), time.Minute)), begin: "a-a-uid"},
		"one that began elsewhere did":         {pod: clone, checkpoints: all(first, of(newPod("old", beginsFrom("b")), time.Minute)), begin: "a-a-uid"},
		"one of which the labels alone say so": {
			pod: clone, checkpoints: all(first, of(newPod("old", beginsFrom("a")), 0, func(c *v1alpha1.Checkpoint) {
				dumping(c)
				c.Status.Source = nil
			})), wait: "waiting for the capture of pod old on its node",
		},
		"who names nothing any more goes on": {checkpoints: all(first, of(newPod("old", beginsFrom("a")), time.Minute)), claim: "old-old-uid"},
		"it has claimed that itself": {
			pod: clone, checkpoints: all(first, of(newPod("old", beginsFrom("a")), time.Minute, claimedBy("new-uid", v1alpha1.ClaimClaimed))), claim: "old-old-uid",
		},
		"that does not fit, and it may go back to the beginning": {
			pod: clone, policy: policy(goingBack), checkpoints: all(first, of(newPod("old", beginsFrom("a")), time.Minute, with("main"))), claim: "old-old-uid",
			says: []string{`no "main"`},
		},
		"that failed, and it may go back": {
			pod: clone, policy: policy(goingBack), checkpoints: all(first, of(newPod("old", beginsFrom("a")), time.Minute, failed)), claim: "old-old-uid",
		},
		"that failed, and the beginning is on its way": {
			pod: clone, policy: policy(goingBack), checkpoints: all(of(another("a"), time.Hour, notUploaded), of(newPod("old", beginsFrom("a")), time.Minute, failed)),
			wait: "waiting for the upload of Checkpoint a-a-uid from worker-1",
		},
	})
}

// Of clones that wait each takes what another clone left, and no other pod of the workload is in their queue.
func TestClonesHaveAQueueOfTheirOwn(t *testing.T) {
	earlier := newPod("b", func(p *corev1.Pod) { p.UID = "0" })
	check(t, "an earlier pod that is no clone", choiceTest{
		pod: newPod("new", beginsFrom("a")), siblings: []corev1.Pod{*earlier}, claim: "two-two-uid",
		checkpoints: []v1alpha1.Checkpoint{of(newPod("one", beginsFrom("a")), time.Hour), of(newPod("two", beginsFrom("a")), time.Minute)},
	})
	beginsFrom("a")(earlier)
	check(t, "an earlier clone", choiceTest{
		pod: newPod("new", beginsFrom("a")), siblings: []corev1.Pod{*earlier}, claim: "one-one-uid",
		checkpoints: []v1alpha1.Checkpoint{of(newPod("one", beginsFrom("a")), time.Hour), of(newPod("two", beginsFrom("a")), time.Minute)},
	})
}

func TestWhereAPodIsExpectedToBeginFrom(t *testing.T) {
	pod := newPod("new", beginsFrom("a"))
	for what, test := range map[string]struct {
		checkpoint v1alpha1.Checkpoint
		want, node string
	}{
		"one that is there": {checkpoint: of(another("a"), time.Minute), want: "a-a-uid"},
		"one on its way":    {checkpoint: of(another("a"), 0, dumping), node: "worker-1"},
		"one that failed":   {checkpoint: of(another("a"), 0, failed)},
		"none":              {checkpoint: of(another("b"), 0)},
	} {
		c, node := Expected(Facts{
			Pod: pod, Own: lineage.Of(pod), Checkpoints: []v1alpha1.Checkpoint{test.checkpoint}, Now: testNow, Here: func(*v1alpha1.Checkpoint) bool { return false },
		})
		name := ""
		if c != nil {
			name = c.Name
		}
		if name != test.want || node != test.node {
			t.Errorf("%s: Checkpoint %q, node %q", what, name, node)
		}
	}
}
