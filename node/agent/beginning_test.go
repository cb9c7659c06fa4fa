package agent

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// clone is a pod of another workload that begins from what pod a left.
func clone(name string) *corev1.Pod {
	return newPod(name, func(p *corev1.Pod) {
		p.OwnerReferences[0].Name, p.OwnerReferences[0].UID = "clones", "clones-uid"
		p.Annotations[keys.RestoreFrom] = "a-a-uid"
		p.Status.Phase, p.Spec.Containers = corev1.PodPending, []corev1.Container{{Name: "app"}}
	})
}

func TestClonesBeginFromOneCheckpointAndLeaveIt(t *testing.T) {
	one, two := clone("one"), clone("two")
	b := uploaded(t, one, two)
	for _, pod := range []*corev1.Pod{one, two} {
		b.reconcile(pod)
		d := b.decision(pod)
		if d.Action != capture.Restore || d.Checkpoint != "a-a-uid" || !d.Begins || d.GivenUp != nil || d.Previous != nil {
			t.Fatalf("the decision for %s is %+v", pod.Name, d)
		}
		if _, err := capture.Read(d.Directory); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(b.claimFile(string(pod.UID))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s has noted a claim: %v", pod.Name, err)
		}
		b.tells(pod, capture.Result{Outcome: capture.Restored, Consumed: true})
		c := b.restored(pod)
		if c.Status != corev1.ConditionTrue || c.Reason != keys.RestoredFromCheckpoint ||
			!strings.Contains(c.Message, "continues from Checkpoint a-a-uid, as its memverge.ai/restore-from says") {
			t.Errorf("%s says %+v", pod.Name, c)
		}
		if claim := b.checkpoint("a-a-uid").Status.Claim; claim != nil {
			t.Errorf("its claim is %+v", claim)
		}
	}
}

func TestACloneOfWhatIsLostStartsCold(t *testing.T) {
	pod := clone("one")
	b := uploaded(t, pod)
	clear(b.store.objects)
	b.reconcile(pod)
	b.reconcile(pod)
	if c := b.restored(pod); c == nil || c.Status != corev1.ConditionFalse || c.Reason != keys.ColdRestoreFailed ||
		!strings.Contains(c.Message, "fetch Checkpoint a-a-uid") {
		t.Errorf("it says %+v", c)
	}
}

func TestACloneLetsGoOfWhatItHad(t *testing.T) {
	pod := clone("one")
	b := uploaded(t, pod)
	other := b.checkpoint("a-a-uid").DeepCopy()
	other.Name, other.ResourceVersion, other.UID = "other", "", "other-uid"
	if err := b.Client.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := b.noteClaim(t.Context(), pod, other); err != nil {
		t.Fatal(err)
	}
	if won, err := b.claim(t.Context(), pod, other); !won || err != nil {
		t.Fatal(won, err)
	}
	if err := b.dropClaim(t.Context(), pod, ""); err != nil {
		t.Fatal(err)
	}
	found := &v1alpha1.Checkpoint{}
	if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(other), found); err != nil || found.Status.Claim != nil {
		t.Errorf("%v, its claim is %+v", err, found.Status.Claim)
	}
	if n, err := b.readClaimNote(string(pod.UID)); n != nil || err != nil {
		t.Errorf("the note is %+v, %v", n, err)
	}
}
