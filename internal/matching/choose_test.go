package matching

import (
	"maps"
	"strings"
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

var testNow = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// newPod is a protected pod of a ReplicaSet, bound a second ago.
func newPod(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	yes, class := true, keys.RuntimeClass
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID(name + "-uid"), Annotations: map[string]string{keys.Effective: "{}"},
			Labels:          map[string]string{keys.CheckpointMode: keys.True, "pod-template-hash": "1"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "web-uid", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "worker-1", RuntimeClassName: &class},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testNow.Add(-time.Second))},
		}},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func going(p *corev1.Pod) { now := metav1.NewTime(testNow); p.DeletionTimestamp = &now }

func evicted(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" }

func revision(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels["pod-template-hash"] = value }
}

func boundLongAgo(p *corev1.Pod) {
	p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(testNow.Add(-time.Hour))
}

func neverRestored(p *corev1.Pod) { p.Labels[keys.RestoreMode] = keys.False }

// of is the Checkpoint of a pod that was captured so long ago, and uploaded.
func of(pod *corev1.Pod, age time.Duration, changes ...func(*v1alpha1.Checkpoint)) v1alpha1.Checkpoint {
	c, source := lineage.TerminationCheckpoint(pod)
	cut := metav1.NewTime(testNow.Add(-age))
	c.CreationTimestamp = cut
	c.Status = v1alpha1.CheckpointStatus{Source: &source, CaptureTime: &cut, Conditions: []metav1.Condition{
		{Type: v1alpha1.CheckpointCaptured, Status: metav1.ConditionTrue, Reason: v1alpha1.StateCompleted},
		{Type: v1alpha1.CheckpointUploaded, Status: metav1.ConditionTrue, Reason: v1alpha1.StateCompleted},
	}}
	for _, change := range changes {
		change(c)
	}
	return *c
}

func claimedBy(podUID string, phase v1alpha1.ClaimPhase) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		c.Status.Claim = &v1alpha1.CheckpointClaim{PodUID: types.UID(podUID), Phase: phase}
	}
}

func notUploaded(c *v1alpha1.Checkpoint) { c.Status.Conditions[1].Status = metav1.ConditionFalse }

func dumping(c *v1alpha1.Checkpoint) {
	c.Status.CaptureTime = nil
	c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.CheckpointCaptured, Status: metav1.ConditionFalse, Reason: v1alpha1.StateDumping}}
}

func notSynced(c *v1alpha1.Checkpoint) {
	notUploaded(c)
	c.Status.Conditions[0].Status, c.Status.Conditions[0].Reason = metav1.ConditionFalse, v1alpha1.StateDumping
}

func failed(c *v1alpha1.Checkpoint) {
	dumping(c)
	c.Status.Conditions[0].Reason = v1alpha1.ReasonDumpFailed
}

func givenUp(c *v1alpha1.Checkpoint) { // by the manager
	dumping(c)
	c.Status.Conditions = append(c.Status.Conditions, metav1.Condition{
		Type: v1alpha1.CheckpointReady, Status: metav1.ConditionFalse, Reason: v1alpha1.StateFailed,
	})
}

func expired(c *v1alpha1.Checkpoint) {
	c.Status.Conditions = append(c.Status.Conditions, metav1.Condition{
		Type: v1alpha1.CheckpointReady, Status: metav1.ConditionFalse, Reason: v1alpha1.StateExpired,
	})
}

func paused(p *corev1.Pod) {
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
		Type: keys.Checkpointable, Status: corev1.ConditionFalse, Reason: keys.UnprotectedPaused,
	})
}

// choiceTest is what a new pod finds, and what is to be chosen: one of claim, begin, wait, cold and refuse.
type choiceTest struct {
	pod         *corev1.Pod // or new
	policy      *v1alpha1.RestorePolicy
	checkpoints []v1alpha1.Checkpoint
	siblings    []corev1.Pod
	machine     *compat.Facts
	images      map[string]string
	here        string
	gone        string // a node
	claim       string
	begin       string
	wait, cold  string
	refuse      string
	says        []string // the message, in parts
}

func choiceTests() map[string]choiceTest {
	checkpoints := func(all ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return all }
	return map[string]choiceTest{
		"one that has expired": {checkpoints: checkpoints(of(newPod("old"), time.Minute, expired)), cold: keys.ColdCheckpointTooOld},
		"the newer one has expired": {
			checkpoints: checkpoints(of(newPod("old"), time.Minute, expired), of(newPod("older"), time.Hour)), claim: "older-older-ui",
		},
		"one that expired after it was claimed": {
			checkpoints: checkpoints(of(newPod("old"), time.Minute, expired, claimedBy("new-uid", v1alpha1.ClaimClaimed))), claim: "old-old-uid",
		},
		"one that expired before it was captured": {checkpoints: checkpoints(of(newPod("old"), time.Second, dumping, expired)), cold: keys.ColdCheckpointTooOld},
		"a pod goes that is not captured":         {siblings: []corev1.Pod{*newPod("old", going, paused)}, cold: keys.ColdNoCheckpoint},
		"nothing to restore":                      {cold: keys.ColdNoCheckpoint},
		"the only one":                            {checkpoints: checkpoints(of(newPod("a"), time.Minute)), claim: "a-a-uid"},
		"the newest of two":                       {checkpoints: checkpoints(of(newPod("a"), time.Hour), of(newPod("b"), time.Minute)), claim: "b-b-uid"},
		"a failed one is none":                    {checkpoints: checkpoints(of(newPod("a"), time.Minute, failed)), cold: keys.ColdNoCheckpoint},
		"one that another pod has": {
			checkpoints: checkpoints(of(newPod("a"), time.Minute, claimedBy("x", v1alpha1.ClaimClaimed))), cold: keys.ColdNoCheckpoint,
		},
		"one that it has itself": {
			checkpoints: checkpoints(of(newPod("b"), 0), of(newPod("a"), time.Minute, claimedBy("new-uid", v1alpha1.ClaimClaimed))), claim: "a-a-uid",
		},
		"one that it consumed": {
			checkpoints: checkpoints(of(newPod("a"), time.Minute, claimedBy("new-uid", v1alpha1.ClaimConsumed))), cold: keys.ColdNoCheckpoint,
		},
		"too old":          {checkpoints: checkpoints(of(newPod("a"), 25*time.Hour)), cold: keys.ColdCheckpointTooOld},
		"another revision": {checkpoints: checkpoints(of(newPod("a", revision("2")), time.Minute)), cold: keys.ColdTemplateChanged},
		"the label says no": {
			pod: newPod("new", neverRestored), checkpoints: checkpoints(of(newPod("a"), time.Minute)), cold: keys.ColdRestoreDisabled,
		},
		"a sibling goes":        {siblings: []corev1.Pod{*newPod("a", going)}, wait: "waiting for the capture of pod a on worker-1"},
		"a sibling was evicted": {siblings: []corev1.Pod{*newPod("a", evicted)}, wait: "waiting for the capture of pod a on worker-1"},
		"a sibling goes, an older state": {
			siblings:    []corev1.Pod{*newPod("b", going)},
			checkpoints: checkpoints(of(newPod("a"), time.Hour)), wait: "waiting for the capture of pod b on worker-1",
		},
		"a sibling stays":               {siblings: []corev1.Pod{*newPod("a")}, cold: keys.ColdNoCheckpoint},
		"a sibling of another revision": {siblings: []corev1.Pod{*newPod("a", going, revision("2"))}, cold: keys.ColdNoCheckpoint},
		"a sibling whose capture failed": {
			siblings:    []corev1.Pod{*newPod("a", going)},
			checkpoints: checkpoints(of(newPod("a"), 0, failed)), cold: keys.ColdNoCheckpoint,
		},
		"a sibling whose Checkpoint was given up": {
			siblings:    []corev1.Pod{*newPod("a", going)},
			checkpoints: checkpoints(of(newPod("a"), 0, givenUp)), cold: keys.ColdNoCheckpoint,
		},
		"a state that the disk has not yet": {
			checkpoints: checkpoints(of(newPod("a"), 0, notSynced)), wait: "waiting for the capture of pod a on worker-1",
		},
		"a state that the disk of this node has not yet": {checkpoints: checkpoints(of(newPod("a"), 0, notSynced)), here: "a-uid", claim: "a-a-uid"},
		"a capture under way": {
			checkpoints: checkpoints(of(newPod("a"), 0, dumping)), wait: "waiting for the capture of pod a on worker-1",
		},
		"an upload under way": {
			checkpoints: checkpoints(of(newPod("a"), time.Minute, notUploaded)), wait: "waiting for the upload of Checkpoint a-a-uid from worker-1",
		},
		"a state that is on this node": {checkpoints: checkpoints(of(newPod("a"), time.Minute, notUploaded)), here: "a-uid", claim: "a-a-uid"},
		"patience ends with the upload": {
			pod: newPod("new", boundLongAgo), checkpoints: checkpoints(of(newPod("a"), time.Minute, notUploaded)), cold: keys.ColdWaitTimeout,
		},
		"patience ends with the capture": {
			pod: newPod("new", boundLongAgo), siblings: []corev1.Pod{*newPod("a", going)}, cold: keys.ColdWaitTimeout,
		},
		"patience ends, and a sibling has left something, too": {
			pod: newPod("new", boundLongAgo), siblings: []corev1.Pod{*newPod("b", going)}, checkpoints: checkpoints(of(newPod("a"), time.Hour)), claim: "a-a-uid",
		},
		"a policy that says no": {policy: policy(func(s *v1alpha1.RestorePolicySpec) { s.Mode = v1alpha1.RestoreDisabled }), cold: keys.ColdRestoreDisabled},
		"a policy that wants it younger": {
			policy:      policy(func(s *v1alpha1.RestorePolicySpec) { s.MaxAge = &metav1.Duration{Duration: time.Second} }),
			checkpoints: checkpoints(of(newPod("a"), time.Minute)), cold: keys.ColdCheckpointTooOld,
		},
	}
}

func policy(changes ...func(*v1alpha1.RestorePolicySpec)) *v1alpha1.RestorePolicy {
	p := &v1alpha1.RestorePolicy{ObjectMeta: metav1.ObjectMeta{Name: "mine"}}
	for _, change := range changes {
		change(&p.Spec)
	}
	return p
}

func TestChoose(t *testing.T) {
	tests := choiceTests()
	maps.Copy(tests, compatibilityTests())
	testChoices(t, tests)
}

func testChoices(t *testing.T, tests map[string]choiceTest) {
	t.Helper()
	for what, test := range tests {
		check(t, what, test)
	}
}

// check has one choice made.
func check(t *testing.T, what string, test choiceTest) {
	t.Helper()
	pod := test.pod
	if pod == nil {
		pod = newPod("new")
	}
	got := Choose(Facts{
		Pod: pod, Own: lineage.Of(pod), Workload: "web", Policy: test.policy, Checkpoints: test.checkpoints, Siblings: test.siblings, Now: testNow,
		Machine: test.machine, Images: test.images,
		Here: func(c *v1alpha1.Checkpoint) bool { return string(sourceOf(c).PodUID) == test.here },
		Gone: func(node string) bool { return node == test.gone },
	})
	claim, begin := "", ""
	if got.Claim != nil {
		claim = got.Claim.Name
	}
	if got.Begin != nil {
		begin = got.Begin.Name
	}
	if begin != test.begin {
		t.Errorf("%s: it begins from %q, want %q", what, begin, test.begin)
	}
	if claim != test.claim || got.Wait != test.wait || got.Cold != test.cold || got.Refuse != test.refuse {
		t.Errorf("%s: claim %q, wait %q, cold %q, refuse %q (%s); want %q, %q, %q, %q",
			what, claim, got.Wait, got.Cold, got.Refuse, got.Message, test.claim, test.wait, test.cold, test.refuse)
	}
	for _, part := range test.says {
		if !strings.Contains(got.Message, part) {
			t.Errorf("%s: it says %q, which lacks %q", what, got.Message, part)
		}
	}
}
