package matching

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// milestone is a Checkpoint of a pod that went on.
func milestone(name string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		c.Name, c.UID, c.Spec.Trigger, c.Spec.SourcePodUID = name, types.UID(name), v1alpha1.TriggerInterval, ""
	}
}

func ended(phase corev1.PodPhase, code int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Phase = phase
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}}
	}
}

func byProbe(c *v1alpha1.Checkpoint) { c.Spec.Trigger = v1alpha1.TriggerProbe }

func running(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }

func TestANodeThatIsGoneIsNotWaitedFor(t *testing.T) {
	all := func(all ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return all }
	old := newPod("old")
	testChoices(t, map[string]choiceTest{
		"its last state was on a node that is gone": {
			checkpoints: all(of(old, time.Minute, milestone("m1")), of(old, time.Second, notUploaded)), gone: "worker-1", claim: "m1",
		},
		"it was to be captured on a node that is gone": {
			siblings: []corev1.Pod{*newPod("old", going)}, checkpoints: all(of(old, time.Minute, milestone("m1"))), gone: "worker-1", claim: "m1",
		},
		"its only state was on a node that is gone": {
			checkpoints: all(of(old, time.Second, notUploaded)), gone: "worker-1", cold: keys.ColdWaitTimeout,
			says: []string{"Checkpoint old-old-uid is on worker-1 alone, and that node is gone"},
		},
		"its node is gone, and the bucket has its state": {checkpoints: all(of(old, time.Second)), gone: "worker-1", claim: "old-old-uid"},
	})
}

func TestNobodyDoesTheWorkOfAPodThatGoesOn(t *testing.T) {
	all := func(all ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return all }
	old := newPod("old")
	testChoices(t, map[string]choiceTest{
		"the pod runs": {
			siblings: []corev1.Pod{*newPod("old", running)}, checkpoints: all(of(old, time.Minute, milestone("m1"))), cold: keys.ColdNoCheckpoint,
		},
		"the pod is gone": {checkpoints: all(of(old, time.Minute, milestone("m1"))), claim: "m1"},
		"the pod ended in error": {
			siblings: []corev1.Pod{*newPod("old", ended(corev1.PodFailed, 1))}, checkpoints: all(of(old, time.Minute, milestone("m1"))), claim: "m1",
		},
		"the pod ran out of memory": {
			siblings: []corev1.Pod{*newPod("old", ended(corev1.PodFailed, 137))}, checkpoints: all(of(old, time.Minute, milestone("m1"))), claim: "m1",
		},
		"a probe gave its last state up": {
			checkpoints: all(of(old, time.Minute, milestone("m1")), of(old, time.Second, byProbe)), claim: "m1",
		},
		"a probe gave its only state up": {
			checkpoints: all(of(old, time.Second, byProbe)), cold: keys.ColdNoCheckpoint,
			says: []string{"what Checkpoint old-old-uid has was given up by a probe, and is restored only by its name"},
		},
		"the pod has done its work": {
			siblings: []corev1.Pod{*newPod("old", ended(corev1.PodSucceeded, 0))}, checkpoints: all(of(old, time.Minute, milestone("m1"))), cold: keys.ColdNoCheckpoint,
		},
		"the newest of a pod": {checkpoints: all(of(old, time.Hour, milestone("m1")), of(old, time.Minute, milestone("m2"))), claim: "m2"},
		"the pod leaves its last one": {
			siblings: []corev1.Pod{*newPod("old", going)}, checkpoints: all(of(old, time.Minute, milestone("m1"))),
			wait: "waiting for the capture of pod old on worker-1",
		},
		"the pod has left its last one": {checkpoints: all(of(old, time.Minute, milestone("m1")), of(old, time.Second)), claim: "old-old-uid"},
		"the last one is on its way": {
			checkpoints: all(of(old, time.Minute, milestone("m1")), of(old, time.Second, notUploaded)),
			wait:        "waiting for the upload of Checkpoint old-old-uid from worker-1",
		},
		"the last one failed": {checkpoints: all(of(old, time.Minute, milestone("m1")), of(old, time.Second, failed)), claim: "m1"},
		"another pod went on from the last one": {
			checkpoints: all(of(old, time.Minute, milestone("m1")), of(old, time.Second, claimedBy("x", v1alpha1.ClaimConsumed))), cold: keys.ColdNoCheckpoint,
		},
		"another pod went on from an earlier one, as the node was away": {
			checkpoints: all(of(old, time.Minute, milestone("m1"), claimedBy("x", v1alpha1.ClaimConsumed)), of(old, time.Second)), cold: keys.ColdNoCheckpoint,
		},
		"the node of the pod does not answer": {
			pod: newPod("new", boundLongAgo), siblings: []corev1.Pod{*newPod("old", going)}, checkpoints: all(of(old, time.Minute, milestone("m1"))), claim: "m1",
		},
		"the newest is on a node that does not answer": {
			pod: newPod("new", boundLongAgo), checkpoints: all(of(old, time.Hour, milestone("m1")), of(old, time.Minute, milestone("m2"), notUploaded)), claim: "m1",
		},
		"the newest is on its way": {
			checkpoints: all(of(old, time.Hour, milestone("m1")), of(old, time.Minute, milestone("m2"), notUploaded)),
			wait:        "waiting for the upload of Checkpoint m2 from worker-1",
		},
		"the newest failed":       {checkpoints: all(of(old, time.Hour, milestone("m1")), of(old, time.Minute, milestone("m2"), failed)), claim: "m1"},
		"one is under way":        {checkpoints: all(of(old, time.Hour, milestone("m1")), of(old, 0, milestone("m2"), dumping)), claim: "m1"},
		"the only one has failed": {checkpoints: all(of(old, time.Minute, milestone("m1"), failed)), cold: keys.ColdNoCheckpoint},
		"the only one is under way": {
			siblings: []corev1.Pod{*newPod("old", running)}, checkpoints: all(of(old, 0, milestone("m1"), dumping)), cold: keys.ColdNoCheckpoint,
		},
		"a volume is ahead": {
			pod: newPod("new", onClaim), checkpoints: all(of(old, time.Minute, milestone("m1"))), cold: keys.ColdVolumeAdvanced,
			says: []string{`Checkpoint m1 is from before what the volume "data" holds by now`},
		},
		"a volume is ahead, and the policy allows it": {
			pod: newPod("new", onClaim), policy: policy(overVolumes), checkpoints: all(of(old, time.Minute, milestone("m1"))), claim: "m1",
		},
		"a policy names it, and the pod goes on": {
			policy: policy(naming("m1")), siblings: []corev1.Pod{*newPod("old", running)}, checkpoints: all(of(old, time.Minute, milestone("m1-m1-uid"))),
			cold: keys.ColdSourceRuns,
		},
		"a policy names an earlier one": {
			policy:      policy(naming("m1")),
			checkpoints: all(of(old, time.Hour, milestone("m1-m1-uid")), of(old, time.Minute, milestone("m2"))), claim: "m1-m1-uid",
		},
	})
}

func TestTheStateBeforeTheLastOneMayBeAMilestone(t *testing.T) {
	old := newPod("old")
	f := Facts{
		Pod: newPod("new"), Policy: policy(goingBack), Now: testNow, Here: func(*v1alpha1.Checkpoint) bool { return false },
		Checkpoints: []v1alpha1.Checkpoint{
			of(old, time.Hour, milestone("m1")), of(old, time.Minute, milestone("m2")), of(newPod("neighbour"), time.Second, milestone("m3")), of(old, 0),
		},
	}
	f.Own.Owner, f.Own.Lineage = f.Checkpoints[0].Status.Source.Owner, f.Checkpoints[0].Status.Source.Lineage
	before, why := f.Before(&f.Checkpoints[3])
	if before == nil || before.Name != "m2" {
		t.Errorf("before the last one it was %v, %s; want m2", before, why)
	}
}
