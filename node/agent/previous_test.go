package agent

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// twoStates is a bench on which pod "b" went on from what "a" left, and left something itself. Both are in the bucket alone.
func twoStates(t *testing.T, pod *corev1.Pod) *bench {
	t.Helper()
	policy := failing()
	policy.Spec.Fallback, policy.Spec.ContainerRestarts = v1alpha1.FallbackPrevious, new(int32(2))
	b := uploaded(t, policy, pod)
	second := newPod("b")
	first := b.checkpoint("a-a-uid")
	first.Status.CaptureTime = &metav1.Time{Time: testNow.Add(-time.Hour)}
	if err := b.Client.Status().Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := b.consume(t.Context(), second, first, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.takeNote(second); err != nil {
		t.Fatal(err)
	}
	dir := b.captured(second, "1", capture.Complete)
	b.look(dir)
	if err := b.remove(dir); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) decision(pod *corev1.Pod) *capture.Decision {
	b.t.Helper()
	d, err := b.Node.Decision(string(pod.UID))
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// tells writes what the runtime did with the container of a pod, and has the agent look.
func (b *bench) tells(pod *corev1.Pod, r capture.Result) {
	b.t.Helper()
	r.SchemaVersion, r.Container = capture.SchemaVersion, "app"
	if err := capture.WriteJSON(b.Node.ResultFile(string(pod.UID), "app"), r); err != nil {
		b.t.Fatal(err)
	}
	b.reconcile(pod)
}

func TestTheStateBeforeIsFetchedAsWell(t *testing.T) {
	pod := successor()
	b := twoStates(t, pod)
	b.reconcile(pod)
	d := b.decision(pod)
	if d.Checkpoint != "b-b-uid" || d.Previous == nil || d.Previous.Checkpoint != "a-a-uid" || d.GivenUp != nil || d.Restarts != 2 ||
		d.Attempts != v1alpha1.DefaultAttempts {
		t.Fatalf("the decision is %+v", d)
	}
	for _, dir := range []string{d.Directory, d.Previous.Directory} {
		if _, err := capture.Read(dir); err != nil {
			t.Error(err)
		}
	}
	d.GoBack("CRIU says no") // as the runtime does
	if err := b.Node.Redecide("new-uid", d); err != nil {
		t.Fatal(err)
	}
	b.tells(pod, capture.Result{Outcome: capture.Restored, Consumed: true})
	c := b.restored(pod)
	if c.Status != corev1.ConditionTrue || c.Reason != keys.RestoredFromPrevious ||
		!strings.Contains(c.Message, "continues from Checkpoint a-a-uid by RestorePolicy mine") ||
		!strings.Contains(c.Message, "Checkpoint b-b-uid, which is newer, did not serve: CRIU says no") {
		t.Errorf("it says %+v", c)
	}
	claim := b.checkpoint("b-b-uid").Status.Claim
	if claim == nil || claim.Phase != v1alpha1.ClaimConsumed || claim.PodName != "new" || claim.RestoredFrom != "a-a-uid" {
		t.Errorf("its claim is %+v", claim)
	}
	if claim = b.checkpoint("a-a-uid").Status.Claim; claim == nil || claim.PodName != "b" {
		t.Errorf("the claim of the one before is %+v", claim)
	}
	if !isThere(b.statesOf(pod)) {
		t.Error("the state is gone from which a container would be restored again")
	}
	b.tells(pod, capture.Result{Outcome: capture.Attempted, Consumed: true, Again: 1, Started: testNow})
	if c := b.restored(pod); c.Reason != keys.RestoredFromPrevious {
		t.Errorf("while it is restored again it says %+v", c)
	}
	b.tells(pod, capture.Result{Outcome: capture.Restored, Consumed: true, Again: 1})
	if c := b.restored(pod); c.Status != corev1.ConditionTrue || !strings.Contains(c.Message, "restored again, 1 of 2 times") {
		t.Errorf("restored again it says %+v", c)
	}
}

func TestWhatIsDamagedInTheBucketIsGivenUp(t *testing.T) {
	pod := successor()
	b := twoStates(t, pod)
	damaged := b.checkpoint("b-b-uid")
	for _, key := range b.store.keys(folder(damaged)) {
		if strings.Contains(key, string(damaged.UID)) {
			b.store.objects[key] = []byte("something else")
		}
	}
	b.reconcile(pod)
	d := b.decision(pod)
	if d.Checkpoint != "a-a-uid" || d.Previous != nil || d.GivenUp == nil || d.GivenUp.Checkpoint != "b-b-uid" ||
		!strings.Contains(d.GivenUp.Why, "fetch Checkpoint b-b-uid") {
		t.Fatalf("the decision is %+v", d)
	}
	if claim := b.checkpoint("b-b-uid").Status.Claim; claim == nil || claim.PodName != "new" {
		t.Errorf("its claim is %+v", claim)
	}
	b.tells(pod, capture.Result{Outcome: capture.RestoreFailed, Message: "CRIU says no"})
	if claim := b.checkpoint("b-b-uid").Status.Claim; claim != nil {
		t.Errorf("nothing ran, and its claim is %+v", claim)
	}
	if c := b.restored(pod); c.Status != corev1.ConditionFalse || c.Reason != keys.ColdRestoreFailed {
		t.Errorf("it says %+v", c)
	}
}
