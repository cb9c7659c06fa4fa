package matching

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

func goingBack(s *v1alpha1.RestorePolicySpec) {
	s.Source, s.Fallback = v1alpha1.RestoreLatest, v1alpha1.FallbackPrevious
}

func overVolumes(s *v1alpha1.RestorePolicySpec) { s.VolumeChanges = v1alpha1.VolumeChangesRestore }

func restoredFrom(name string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) { c.Status.Claim.RestoredFrom = name }
}

func unwanted(c *v1alpha1.Checkpoint) {
	failed(c)
	c.Status.Conditions[0].Reason = v1alpha1.StateDiscarded
}

func mightier(c *v1alpha1.Checkpoint) {
	c.Status.Machine = &v1alpha1.CheckpointMachine{Architecture: "amd64", Instructions: "avx512f sse2"}
}

func onClaim(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}}
	p.Spec.Containers = []corev1.Container{{Name: "app", VolumeMounts: []corev1.VolumeMount{{Name: "data"}}}}
}

// A pod "a" left a state, "b" went on from it and left another, and that one does not serve "new".
func TestWhereTheLastStateDoesNotServeThePolicyGoesBack(t *testing.T) {
	machine := &compat.Facts{Architecture: "amd64", Instructions: "sse2"}
	first := of(newPod("a"), time.Hour, consumedBy("b"))
	lost := of(newPod("b"), time.Minute, givenUp)
	unfit := of(newPod("b"), time.Minute, mightier)
	late := of(newPod("b"), 10*time.Minute, notUploaded)
	claimed := of(newPod("b"), time.Minute, givenUp, claimedBy("new-uid", v1alpha1.ClaimClaimed))
	patient := []func(*corev1.Pod){boundLongAgo}
	type test struct {
		pod         *corev1.Pod
		policy      *v1alpha1.RestorePolicy
		checkpoints []v1alpha1.Checkpoint
		siblings    []corev1.Pod
		from        string // of the claimed "b-b-uid"
		cold, wait  string
		says        string
	}
	some := func(all ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return all }
	for what, test := range map[string]test{
		"there is nothing of it":          {checkpoints: some(lost, first), from: "a-a-uid", says: "there is nothing of Checkpoint b-b-uid"},
		"the manager has not seen so yet": {checkpoints: some(of(newPod("b"), time.Minute, failed), first), from: "a-a-uid", says: v1alpha1.ReasonDumpFailed},
		"it was not wanted":               {checkpoints: some(of(newPod("b"), time.Minute, unwanted), first), cold: keys.ColdNoCheckpoint},
		"the machine lacks something":     {checkpoints: some(unfit, first), from: "a-a-uid", says: "no avx512f"},
		"it never came to the bucket":     {pod: newPod("new", patient...), checkpoints: some(late, first), from: "a-a-uid", says: "not in the bucket"},
		"it may still come to the bucket": {checkpoints: some(late, first), wait: "waiting for the upload"},
		"the pod had claimed it":          {checkpoints: some(claimed, first), from: "a-a-uid", says: "there is nothing"},
		"the policy does not say so":      {policy: policy(), checkpoints: some(lost, first), cold: keys.ColdNoCheckpoint},
		"there is none before":            {checkpoints: some(lost), cold: keys.ColdNoCheckpoint},
		"that one was another pod's":      {checkpoints: some(lost, of(newPod("a"), time.Hour, consumedBy("c"))), cold: keys.ColdNoCheckpoint},
		"that one is too old":             {checkpoints: some(lost, of(newPod("a"), 48*time.Hour, consumedBy("b"))), cold: keys.ColdNoCheckpoint},
		"that one does not do either":     {checkpoints: some(unfit, of(newPod("a"), time.Hour, consumedBy("b"), mightier)), cold: keys.ColdIncompatible},
		"that one has expired":            {checkpoints: some(lost, of(newPod("a"), time.Hour, consumedBy("b"), expired)), cold: keys.ColdNoCheckpoint},
		"the one before went back itself": {
			checkpoints: some(lost, of(newPod("a"), 2*time.Hour, consumedBy("x")), of(newPod("x"), time.Hour, consumedBy("b"), restoredFrom("a-a-uid"))),
			from:        "a-a-uid",
		},
		"its pod has not ended": {
			checkpoints: some(lost, first), siblings: []corev1.Pod{*newPod("b", going)}, wait: "waiting for pod b to end, which could not be captured",
		},
		"its pod does not end": {
			pod: newPod("new", patient...), checkpoints: some(lost, first), siblings: []corev1.Pod{*newPod("b", going)}, cold: keys.ColdNoCheckpoint,
		},
		"a volume has moved on": {
			pod: newPod("new", onClaim), checkpoints: some(lost, first), cold: keys.ColdVolumeAdvanced, says: `what the volume "data" holds`,
		},
		"a volume has moved on, which it bears": {
			pod: newPod("new", onClaim), policy: policy(goingBack, overVolumes), checkpoints: some(lost, first), from: "a-a-uid",
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := Facts{Pod: test.pod, Policy: test.policy, Checkpoints: test.checkpoints, Siblings: test.siblings, Machine: machine, Now: testNow}
			if f.Pod == nil {
				f.Pod = newPod("new")
			}
			if f.Policy == nil {
				f.Policy = policy(goingBack)
			}
			f.Own, f.Here = lineage.Of(f.Pod), func(*v1alpha1.Checkpoint) bool { return false }
			got := Choose(f)
			claim, from := "", ""
			if got.Claim != nil && got.From != nil {
				claim, from = got.Claim.Name, got.From.Name
			}
			if from != test.from || (claim == "b-b-uid") != (test.from != "") || got.Cold != test.cold || !strings.HasPrefix(got.Wait, test.wait) ||
				(got.Wait == "") != (test.wait == "") || !strings.Contains(got.Message, test.says) {
				t.Errorf("claim %q, from %q, cold %q, wait %q: %s", claim, from, got.Cold, got.Wait, got.Message)
			}
		})
	}
}

func TestAPlaceOfItsOwnGoesBackToWhatNobodyTook(t *testing.T) {
	pod := reborn(plain("db", "db:1"))
	pod.UID += "-3"
	older, last := of(plain("db", "db:1"), time.Hour), of(reborn(plain("db", "db:1")), time.Minute)
	f := Facts{
		Pod: pod, Own: lineage.Of(pod), Policy: policy(goingBack), Checkpoints: []v1alpha1.Checkpoint{last, older}, Now: testNow,
		Here: func(*v1alpha1.Checkpoint) bool { return false },
	}
	if before, why := f.Before(&f.Checkpoints[0]); before == nil || before.Name != older.Name || why != "" {
		t.Errorf("before it is %+v, %s", before, why)
	}
	f.Policy = nil
	if before, _ := f.Before(&f.Checkpoints[0]); before != nil {
		t.Errorf("without a policy before it is %+v", before)
	}
}

func TestWhenAContainerIsRestoredAgain(t *testing.T) {
	thrice := func(s *v1alpha1.RestorePolicySpec) { s.ContainerRestarts, s.Attempts = new(int32(3)), new(int32(5)) }
	for what, test := range map[string]struct {
		pod      *corev1.Pod
		policy   *v1alpha1.RestorePolicy
		captured int
		want     int
		why      string
	}{
		"no policy":                             {newPod("new"), nil, 1, 0, ""},
		"a policy without it":                   {newPod("new"), policy(), 1, 0, ""},
		"as often as it says":                   {newPod("new"), policy(thrice), 1, 3, ""},
		"one of two":                            {newPod("new"), policy(thrice), 2, 0, "together with 1 others"},
		"a volume has moved on":                 {newPod("new", onClaim), policy(thrice), 1, 0, `VolumeAdvanced: the state is from before what volume "data" holds`},
		"a volume has moved on, which it bears": {newPod("new", onClaim), policy(thrice, overVolumes), 1, 3, ""},
	} {
		t.Run(what, func(t *testing.T) {
			f := Facts{Pod: test.pod, Policy: test.policy}
			if got, why := f.ContainerRestarts(test.captured); got != test.want || !strings.Contains(why, test.why) || (why == "") != (test.why == "") {
				t.Errorf("%d times, %s", got, why)
			}
		})
	}
	if f := (Facts{Policy: policy(thrice)}); f.Attempts() != 5 || (Facts{}).Attempts() != v1alpha1.DefaultAttempts {
		t.Errorf("%d and %d attempts", f.Attempts(), Facts{}.Attempts())
	}
}
