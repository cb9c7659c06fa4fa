package matching

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// naming has a policy name the Checkpoint of the pod of that name.
func naming(pod string) func(*v1alpha1.RestorePolicySpec) {
	return func(s *v1alpha1.RestorePolicySpec) {
		s.Source, s.CheckpointName = v1alpha1.RestoreNamed, pod+"-"+pod+"-uid"
	}
}

func waitsFor(d time.Duration) func(*v1alpha1.RestorePolicySpec) {
	return func(s *v1alpha1.RestorePolicySpec) { s.WaitFor = &metav1.Duration{Duration: d} }
}

func anyRevision(s *v1alpha1.RestorePolicySpec) { s.TemplateChanges = v1alpha1.TemplateChangesRestore }

func failing(s *v1alpha1.RestorePolicySpec) { s.Fallback = v1alpha1.FallbackFail }

func ownedBy(kind, name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		o := &p.OwnerReferences[0]
		o.Kind, o.Name, o.UID = kind, name, types.UID(name+"-uid")
		if kind == "Job" {
			o.APIVersion = "batch/v1"
		}
	}
}

// replica is a pod of a revision of the Deployment web.
func replica(name, hash string) *corev1.Pod {
	return newPod(name, revision(hash), ownedBy("ReplicaSet", "web-"+hash))
}

// ofWeb is what a pod of the first revision of that Deployment left.
func ofWeb(name string) v1alpha1.Checkpoint {
	return of(replica(name, "1"), time.Hour, ofWorkload("web"))
}

// member is a pod of a revision of the StatefulSet db.
func member(name, hash string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := newPod(name, append([]func(*corev1.Pod){ownedBy("StatefulSet", "db")}, changes...)...)
	delete(p.Labels, "pod-template-hash")
	p.Labels["controller-revision-hash"] = hash
	return p
}

// plain is a pod that nobody but a person has made, running an image.
func plain(name, image string) *corev1.Pod {
	p := newPod(name)
	p.OwnerReferences = nil
	delete(p.Labels, "pod-template-hash")
	p.Spec.Containers = []corev1.Container{{Name: "app", Image: image}}
	return p
}

func reborn(p *corev1.Pod) *corev1.Pod { p.UID += "-2"; return p }

func with(container string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) { c.Status.Containers = []v1alpha1.CheckpointContainer{{Name: container}} }
}

func deleted(c *v1alpha1.Checkpoint) { c.DeletionTimestamp = &metav1.Time{Time: testNow} }

func consumedBy(pod string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		claimedBy(pod+"-uid", v1alpha1.ClaimConsumed)(c)
		c.Status.Claim.PodName = pod
	}
}

func TestANamedCheckpointServesOrNone(t *testing.T) {
	tests := namedTests(of(newPod("b"), time.Second))
	tests["it is being made"] = choiceTest{
		policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), 0, dumping)}, wait: "waiting for the capture of pod a, Checkpoint a-a-uid",
	}
	testChoices(t, tests)
}

// namedTests have another Checkpoint that is newer than any that is named.
func namedTests(other v1alpha1.Checkpoint) map[string]choiceTest {
	return map[string]choiceTest{
		"it is there": {policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour), other}, claim: "a-a-uid"},
		"nobody waits for what else is on its way": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour)}, siblings: []corev1.Pod{*newPod("b", going)}, claim: "a-a-uid",
		},
		"it is missing": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{other}, cold: keys.ColdCheckpointNotFound,
			says: []string{"RestorePolicy mine", "Checkpoint a-a-uid", "namespace default"},
		},
		"the pod has claimed it": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), 48*time.Hour, claimedBy("new-uid", v1alpha1.ClaimClaimed))},
			claim: "a-a-uid",
		},
		"the pod has claimed another": {
			policy: policy(naming("a")), claim: "a-a-uid",
			checkpoints: []v1alpha1.Checkpoint{of(newPod("b"), time.Hour, claimedBy("new-uid", v1alpha1.ClaimClaimed)), of(newPod("a"), time.Hour)},
		},
		"another pod has claimed it": {
			policy: policy(naming("a")), cold: keys.ColdCheckpointClaimed, says: []string{"Checkpoint a-a-uid", "RestorePolicy mine"},
			checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour, claimedBy("x", v1alpha1.ClaimClaimed)), other},
		},
		"another pod was restored from it": {
			policy: policy(naming("a")), cold: keys.ColdCheckpointClaimed, says: []string{"pod x was restored from Checkpoint a-a-uid, which serves one pod, once"},
			checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour, consumedBy("x")), other},
		},
		"the pod itself was": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour, consumedBy("new"))}, cold: keys.ColdCheckpointClaimed,
		},
		"it failed": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour, failed), other},
			cold: keys.ColdCheckpointNotReady, says: []string{"Checkpoint a-a-uid", v1alpha1.ReasonDumpFailed},
		},
		"it has expired": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour, expired), other},
			cold: keys.ColdCheckpointNotReady, says: []string{"Checkpoint a-a-uid", "cannot be restored: Expired"},
		},
		"it is being deleted": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour, deleted), other}, cold: keys.ColdCheckpointNotReady,
		},
		"it is too old": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), 25*time.Hour), other},
			cold: keys.ColdCheckpointTooOld, says: []string{"Checkpoint a-a-uid is older than 24h0m0s, as it was captured 25h0m0s ago"},
		},
		"it is of another owner": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a", ownedBy("Job", "sums")), time.Hour), other},
			cold: keys.ColdOtherLineage, says: []string{"Checkpoint a-a-uid is of Job sums, and this pod is of ReplicaSet web"},
		},
		"it is of another place": {
			pod: reborn(member("db-1", "1")), policy: policy(naming("db-0")), checkpoints: []v1alpha1.Checkpoint{of(member("db-0", "1"), time.Hour)},
			cold: keys.ColdOtherLineage, says: []string{"StatefulSet db, db-0", "StatefulSet db, db-1"},
		},
		"it is of another revision": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a", revision("2")), time.Hour), other},
			cold: keys.ColdTemplateChanged, says: []string{"Checkpoint a-a-uid", "RestorePolicy mine"},
		},
		"it is of another revision, which the policy allows": {
			policy: policy(naming("a"), anyRevision), checkpoints: []v1alpha1.Checkpoint{of(newPod("a", revision("2")), time.Hour), other}, claim: "a-a-uid",
		},
		"the node's machine is not one for it": {
			pod: newPod("new", withApp("", corev1.PullIfNotPresent)), policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{
				of(newPod("a"), time.Hour, ranOn("6.1.9", "avx512f")), other,
			}, machine: &compat.Facts{Architecture: "amd64", Kernel: "6.1.5", PageSize: 4096, Instructions: "avx avx2"},
			cold: keys.ColdIncompatible, says: []string{"Checkpoint a-a-uid cannot go on here", "RestorePolicy mine names it"},
		},
		"it is being made for too long": {
			pod: newPod("new", boundLongAgo), policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), 0, dumping), other},
			cold: keys.ColdWaitTimeout, says: []string{"pod a, Checkpoint a-a-uid, took longer than 5m0s"},
		},
		"it is on its way": {
			policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), 0, notUploaded), other},
			wait: "waiting for the upload of Checkpoint a-a-uid from worker-1",
		},
		"it is on this node": {policy: policy(naming("a")), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), 0, notUploaded)}, here: "a-uid", claim: "a-a-uid"},
		"it is on its way, and the policy does not wait": {
			policy: policy(naming("a"), waitsFor(0)), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), 0, notUploaded), other},
			cold: keys.ColdWaitTimeout, says: []string{"Checkpoint a-a-uid was not in the bucket after 0s"},
		},
	}
}

// elsewhere is what a pod left in a cluster whose controllers have other UIDs.
func elsewhere(pod *corev1.Pod) v1alpha1.Checkpoint {
	pod.OwnerReferences[0].UID += "-elsewhere"
	return of(pod, time.Hour, func(c *v1alpha1.Checkpoint) { c.Status.StorageName = "first" })
}

// A controller of the same name in another cluster is another one, unless a person says otherwise by naming what it left.
func TestWhatComesFromAnotherClusterIsRestoredWhenItIsNamed(t *testing.T) {
	checkpoints := func(all ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return all }
	notRecreated := elsewhere(newPod("a"))
	notRecreated.Status.StorageName = ""
	testChoices(t, map[string]choiceTest{
		"of a Deployment": {
			pod: replica("new", "1"), policy: policy(naming("a")), checkpoints: checkpoints(elsewhere(replica("a", "1"))), claim: "a-a-uid",
		},
		"of a StatefulSet": {
			pod: reborn(member("db-0", "1")), policy: policy(naming("db-0")), checkpoints: checkpoints(elsewhere(member("db-0", "1"))), claim: "db-0-db-0-uid",
		},
		"nobody names it": {pod: replica("new", "1"), policy: policy(), checkpoints: checkpoints(elsewhere(replica("a", "1"))), cold: keys.ColdNoCheckpoint},
		"it is of this cluster, whose controller was another": {
			policy: policy(naming("a")), checkpoints: checkpoints(notRecreated), cold: keys.ColdOtherLineage,
		},
		"of another place": {
			pod: reborn(member("db-1", "1")), policy: policy(naming("db-0")), checkpoints: checkpoints(elsewhere(member("db-0", "1"))), cold: keys.ColdOtherLineage,
		},
		"of another name": {
			pod: newPod("new", ownedBy("Job", "sums")), policy: policy(naming("a")), checkpoints: checkpoints(elsewhere(newPod("a", ownedBy("Job", "counts")))),
			cold: keys.ColdOtherLineage,
		},
		"of another template": {
			pod: replica("new", "2"), policy: policy(naming("a")), checkpoints: checkpoints(elsewhere(replica("a", "1"))), cold: keys.ColdTemplateChanged,
		},
		"of another template, which the policy allows": {
			pod: replica("new", "2"), policy: policy(naming("a"), anyRevision), checkpoints: checkpoints(elsewhere(replica("a", "1"))), claim: "a-a-uid",
		},
		"a plain pod is known by its name, whoever names it": {
			pod: reborn(plain("a", "app:1")), policy: policy(), checkpoints: checkpoints(of(plain("a", "app:1"), time.Hour)), claim: "a-a-uid",
		},
	})
}

func TestAnotherRevisionIsRestoredWhereThePolicySaysSo(t *testing.T) {
	checkpoints := func(all ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return all }
	all := policy(anyRevision)
	testChoices(t, map[string]choiceTest{
		"a StatefulSet, without": {pod: reborn(member("db-0", "2")), checkpoints: checkpoints(of(member("db-0", "1"), time.Hour)), cold: keys.ColdTemplateChanged},
		"a StatefulSet": {
			pod: reborn(member("db-0", "2")), policy: all, checkpoints: checkpoints(of(member("db-0", "1"), time.Hour)),
			claim: "db-0-db-0-uid",
		},
		"another place of it": {
			pod: reborn(member("db-0", "2")), policy: all, checkpoints: checkpoints(of(member("db-1", "1"), time.Hour)), cold: keys.ColdNoCheckpoint,
		},
		"another StatefulSet": {
			pod: reborn(member("db-0", "2")), policy: all, checkpoints: checkpoints(of(member("db-0", "1", ownedBy("StatefulSet", "db2")), time.Hour)),
			cold: keys.ColdNoCheckpoint,
		},
		"a Deployment, without": {pod: replica("new", "2"), checkpoints: checkpoints(ofWeb("a")), cold: keys.ColdTemplateChanged},
		"a Deployment":          {pod: replica("new", "2"), policy: all, checkpoints: checkpoints(ofWeb("a")), claim: "a-a-uid"},
		"another Deployment, labelled as this one": {
			pod: replica("new", "2"), policy: all, checkpoints: checkpoints(of(newPod("a", ownedBy("ReplicaSet", "shop-1")), 0, ofWorkload("web"))),
			cold: keys.ColdTemplateChanged,
		},
		"a plain pod, without": {pod: reborn(plain("a", "two")), checkpoints: checkpoints(of(plain("a", "one"), time.Hour)), cold: keys.ColdTemplateChanged},
		"a plain pod":          {pod: reborn(plain("a", "two")), policy: all, checkpoints: checkpoints(of(plain("a", "one"), time.Hour)), claim: "a-a-uid"},
		"another plain pod":    {pod: plain("b", "two"), policy: all, checkpoints: checkpoints(of(plain("a", "one"), time.Hour)), cold: keys.ColdNoCheckpoint},
		"a plain pod of which nothing is known": {
			pod: reborn(plain("a", "two")), policy: all, cold: keys.ColdNoCheckpoint,
			checkpoints: checkpoints(of(plain("a", "one"), time.Hour, func(c *v1alpha1.Checkpoint) { c.Status.Source.Lineage = lineage.Unknown("a-uid") })),
		},
		"the newest of any revision": {
			pod: replica("new", "2"), policy: all,
			checkpoints: checkpoints(of(replica("a", "2"), time.Hour), of(replica("b", "1"), time.Minute, ofWorkload("web"))),
			claim:       "b-b-uid",
		},
		"another Deployment, by the label": {
			pod: replica("new", "2"), policy: all, checkpoints: checkpoints(of(replica("a", "1"), time.Hour, ofWorkload("shop"))), cold: keys.ColdNoCheckpoint,
		},
		"a pod of the other revision is being captured": {
			pod: replica("new", "2"), policy: all, checkpoints: checkpoints(of(replica("a", "1"), 0, dumping, ofWorkload("web"))),
			wait: "waiting for the capture of pod a on worker-1",
		},
		"a container is gone": {
			pod: reborn(plain("a", "two")), policy: all, checkpoints: checkpoints(of(plain("a", "one"), time.Hour, with("side"))),
			cold: keys.ColdTemplateChanged, says: []string{`Checkpoint a-a-uid has the container "side", which the pod has not`},
		},
		"the containers are there": {
			pod: reborn(plain("a", "two")), policy: all, checkpoints: checkpoints(of(plain("a", "one"), time.Hour, with("app"))), claim: "a-a-uid",
		},
	})
}

func TestThePolicySaysHowLongAPodWaits(t *testing.T) {
	uploading := of(newPod("a"), 0, notUploaded)
	late := func(d time.Duration) *corev1.Pod {
		return newPod("new", func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(testNow.Add(-d)) })
	}
	testChoices(t, map[string]choiceTest{
		"not at all, for an upload": {
			policy: policy(waitsFor(0)), checkpoints: []v1alpha1.Checkpoint{uploading},
			cold: keys.ColdWaitTimeout, says: []string{"Checkpoint a-a-uid was not in the bucket after 0s"},
		},
		"not at all, for a capture": {
			policy: policy(waitsFor(0)), siblings: []corev1.Pod{*newPod("a", going)},
			cold: keys.ColdWaitTimeout, says: []string{"the capture of pod a on worker-1 took longer than 0s"},
		},
		"not at all, and nothing is on its way": {policy: policy(waitsFor(0)), cold: keys.ColdNoCheckpoint},
		"not at all, and it is here":            {policy: policy(waitsFor(0)), checkpoints: []v1alpha1.Checkpoint{uploading}, here: "a-uid", claim: "a-a-uid"},
		"not at all, and another left something": {
			policy: policy(waitsFor(0)), checkpoints: []v1alpha1.Checkpoint{uploading, of(newPod("b"), time.Hour)}, claim: "b-b-uid",
		},
		"a StatefulSet does not go back": {
			pod: reborn(member("db-0", "1")), policy: policy(waitsFor(0)), cold: keys.ColdWaitTimeout,
			checkpoints: []v1alpha1.Checkpoint{of(member("db-0", "1"), 0, notUploaded), func() v1alpha1.Checkpoint {
				old := of(member("db-0", "1"), time.Hour)
				old.Name, old.Spec.SourcePodUID, old.Status.Source.PodUID = "old", "old", "old"
				return old
			}()},
		},
		"longer than by default": {pod: late(30 * time.Minute), policy: policy(waitsFor(time.Hour)), siblings: []corev1.Pod{*newPod("a", going)},
			wait: "waiting for the capture of pod a on worker-1"},
		"longer than by default, for a capture that takes long": {
			pod: late(30 * time.Minute), policy: policy(waitsFor(time.Hour)), checkpoints: []v1alpha1.Checkpoint{of(newPod("a"), 40*time.Minute, dumping)},
			wait: "waiting for the capture of pod a on worker-1",
		},
		"until it is over": {
			pod: late(31 * time.Second), policy: policy(waitsFor(30 * time.Second)), checkpoints: []v1alpha1.Checkpoint{uploading}, cold: keys.ColdWaitTimeout,
		},
	})
}

func TestWithFailAPodStartsOnlyWhenThereWasNothingToRestore(t *testing.T) {
	fail := policy(failing)
	one := func(c v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return []v1alpha1.Checkpoint{c} }
	testChoices(t, map[string]choiceTest{
		"there is one":           {policy: fail, checkpoints: one(of(newPod("a"), time.Hour)), claim: "a-a-uid"},
		"the first of its owner": {policy: fail, cold: keys.ColdNoCheckpoint},
		"a failed capture":       {policy: fail, checkpoints: one(of(newPod("a"), time.Hour, failed)), cold: keys.ColdNoCheckpoint},
		"another pod has it":     {policy: fail, checkpoints: one(of(newPod("a"), time.Hour, consumedBy("x"))), cold: keys.ColdNoCheckpoint},
		"another template":       {policy: fail, checkpoints: one(of(newPod("a", revision("2")), time.Hour)), cold: keys.ColdTemplateChanged},
		"the label says no": {
			pod: newPod("new", neverRestored), policy: fail, checkpoints: one(of(newPod("a"), 25*time.Hour)),
			cold: keys.ColdRestoreDisabled,
		},
		"it is switched off": {policy: policy(failing, disabled), checkpoints: one(of(newPod("a"), 25*time.Hour)), cold: keys.ColdRestoreDisabled},
		"it waits first": {
			policy: fail, checkpoints: one(of(newPod("a"), 0, notUploaded)),
			wait: "waiting for the upload of Checkpoint a-a-uid from worker-1",
		},
		"too old":                  {policy: fail, checkpoints: one(of(newPod("a"), 25*time.Hour)), refuse: keys.ColdCheckpointTooOld},
		"a rollout replaced it":    {policy: fail, checkpoints: one(of(newPod("a"), time.Hour, expired)), cold: keys.ColdCheckpointTooOld},
		"the wait is over":         {policy: policy(failing, waitsFor(0)), checkpoints: one(of(newPod("a"), 0, notUploaded)), refuse: keys.ColdWaitTimeout},
		"the named one is missing": {policy: policy(failing, naming("a")), refuse: keys.ColdCheckpointNotFound},
		"the named one failed":     {policy: policy(failing, naming("a")), checkpoints: one(of(newPod("a"), time.Hour, failed)), refuse: keys.ColdCheckpointNotReady},
		"the named one is consumed": {
			policy: policy(failing, naming("a")), checkpoints: one(of(newPod("a"), time.Hour, consumedBy("x"))),
			refuse: keys.ColdCheckpointClaimed,
		},
		"the named one is of others": {
			policy: policy(failing, naming("a")), checkpoints: one(of(newPod("a", ownedBy("Job", "sums")), time.Hour)), refuse: keys.ColdOtherLineage,
		},
		"the named one is of another template": {
			policy: policy(failing, naming("a")), checkpoints: one(of(newPod("a", revision("2")), time.Hour)), refuse: keys.ColdTemplateChanged,
		},
	})
}

func disabled(s *v1alpha1.RestorePolicySpec) { s.Mode = v1alpha1.RestoreDisabled }

func TestANamedCheckpointIsExpectedOnlyIfItCanServe(t *testing.T) {
	pod := newPod("new")
	other := of(newPod("b"), time.Second)
	for what, test := range map[string]struct {
		all        []v1alpha1.Checkpoint
		want, node string
	}{
		"it is there":        {all: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour), other}, want: "a-a-uid"},
		"it is being made":   {all: []v1alpha1.Checkpoint{of(newPod("a"), 0, dumping), other}, node: "worker-1"},
		"it is missing":      {all: []v1alpha1.Checkpoint{other}},
		"it is claimed":      {all: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour, consumedBy("x")), other}},
		"it failed":          {all: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour, failed), other}},
		"it is too old":      {all: []v1alpha1.Checkpoint{of(newPod("a"), 25*time.Hour), other}},
		"it is of others":    {all: []v1alpha1.Checkpoint{of(newPod("a", ownedBy("Job", "sums")), time.Hour), other}},
		"it is being erased": {all: []v1alpha1.Checkpoint{of(newPod("a"), time.Hour, deleted), other}},
	} {
		checkpoint, node := Expected(Facts{
			Pod: pod, Own: lineage.Of(pod), Policy: policy(naming("a")), Checkpoints: test.all, Now: testNow, Here: func(*v1alpha1.Checkpoint) bool { return false },
		})
		got := ""
		if checkpoint != nil {
			got = checkpoint.Name
		}
		if got != test.want || node != test.node {
			t.Errorf("%s: %q, %q; want %q, %q", what, got, node, test.want, test.node)
		}
	}
}
