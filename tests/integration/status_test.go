package integration

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	metav1apply "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestStatusAndSpecAreWrittenApart(t *testing.T) {
	ns := namespace(t)
	policies := client.CheckpointV1alpha1().RestorePolicies(ns)
	valid := newRestorePolicy()
	valid.Status.Restored = 7
	made, err := policies.Create(t.Context(), valid, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if made.Status.Restored != 0 {
		t.Error("a new object brought a status")
	}
	made.Status.Restored = 7
	if made, err = policies.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if made.Status.Restored != 0 {
		t.Error("whoever may write the spec wrote the status")
	}
	made.Status.Restored, made.Spec.Mode = 7, v1alpha1.RestoreDisabled
	if made, err = policies.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if made.Status.Restored != 7 || made.Spec.Mode != v1alpha1.RestoreEnabled {
		t.Errorf("restored is %d and mode %s; whoever may write the status writes the status alone", made.Status.Restored, made.Spec.Mode)
	}
}

// The manager and two agents write one status; what each of them wrote stays when another writes.
func TestManagerAndAgentsWriteOneStatus(t *testing.T) {
	ns := namespace(t)
	name := create(t, client.CheckpointV1alpha1().Checkpoints(ns), newCheckpoint, nil).Name
	source := newSource()
	write(t, ns, name, keys.ManagerFields, apply.CheckpointStatus().
		WithSource(apply.CheckpointSource().WithPodUID(source.PodUID).WithNode(source.Node).WithLineage(source.Lineage)).
		WithConditions(condition(v1alpha1.CheckpointReady, metav1.ConditionFalse, v1alpha1.StateUploading)))
	write(t, ns, name, keys.PublishFields, apply.CheckpointStatus().WithManifestDigest(digest).WithConditions(
		condition(v1alpha1.CheckpointCaptured, metav1.ConditionTrue, v1alpha1.StateCompleted),
		condition(v1alpha1.CheckpointUploaded, metav1.ConditionTrue, v1alpha1.StateCompleted)))
	write(t, ns, name, keys.ClaimFields(newPodUID), claim(v1alpha1.ClaimClaimed))
	write(t, ns, name, keys.ManagerFields, apply.CheckpointStatus().
		WithSource(apply.CheckpointSource().WithPodUID(source.PodUID).WithNode(source.Node).WithLineage(source.Lineage)).
		WithConditions(condition(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted)))
	source.Owner = nil
	want := v1alpha1.CheckpointStatus{
		Conditions: []metav1.Condition{
			{Type: v1alpha1.CheckpointReady, Status: metav1.ConditionTrue, Reason: v1alpha1.StateCompleted, LastTransitionTime: metav1.Unix(1e9, 0)},
			{Type: v1alpha1.CheckpointCaptured, Status: metav1.ConditionTrue, Reason: v1alpha1.StateCompleted, LastTransitionTime: metav1.Unix(1e9, 0)},
			{Type: v1alpha1.CheckpointUploaded, Status: metav1.ConditionTrue, Reason: v1alpha1.StateCompleted, LastTransitionTime: metav1.Unix(1e9, 0)},
		},
		Source: source, ManifestDigest: digest, Claim: newClaim(v1alpha1.ClaimClaimed),
	}
	if diff := cmp.Diff(want, read(t, ns, name).Status); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAClaimIsReleasedByItsHolderAlone(t *testing.T) {
	ns := namespace(t)
	name := create(t, client.CheckpointV1alpha1().Checkpoints(ns), newCheckpoint, nil).Name
	write(t, ns, name, keys.ClaimFields(newPodUID), claim(v1alpha1.ClaimClaimed))
	write(t, ns, name, keys.ClaimFields(otherPodUID), apply.CheckpointStatus())
	if diff := cmp.Diff(newClaim(v1alpha1.ClaimClaimed), read(t, ns, name).Status.Claim); diff != "" {
		t.Errorf("another agent changed the claim (-want +got):\n%s", diff)
	}
	write(t, ns, name, keys.ClaimFields(newPodUID), apply.CheckpointStatus())
	if got := read(t, ns, name).Status.Claim; got != nil {
		t.Errorf("the holder released the claim, and it is still %v", got)
	}
	write(t, ns, name, keys.ClaimFields(otherPodUID), apply.CheckpointStatus().WithClaim(claim(v1alpha1.ClaimConsumed).Claim.WithPodUID(otherPodUID)))
	if got := read(t, ns, name).Status.Claim; got == nil || got.PodUID != otherPodUID {
		t.Errorf("a released Checkpoint cannot be claimed by another pod: the claim is %v", got)
	}
}

// However many agents claim at once, and by force: one pod gets the Checkpoint.
func TestOfManyClaimsOneWins(t *testing.T) {
	ns := namespace(t)
	name := create(t, client.CheckpointV1alpha1().Checkpoints(ns), newCheckpoint, nil).Name
	var all sync.WaitGroup
	answers := make([]error, 8)
	for i := range answers {
		all.Go(func() {
			uid := string(rune('a'+i)) + newPodUID[1:]
			_, answers[i] = applyStatus(t, ns, name, keys.ClaimFields(uid), apply.CheckpointStatus().WithClaim(
				claim(v1alpha1.ClaimClaimed).Claim.WithPodUID(types.UID(uid))))
		})
	}
	all.Wait()
	won := 0
	for _, err := range answers {
		if err == nil {
			won++
			continue
		}
		checkAnswer(t, err, "the Checkpoint is claimed by another pod")
	}
	if won != 1 {
		t.Errorf("%d of %d claims were granted", won, len(answers))
	}
}

func claim(phase v1alpha1.ClaimPhase) *apply.CheckpointStatusApplyConfiguration {
	c := newClaim(phase)
	return apply.CheckpointStatus().WithClaim(
		apply.CheckpointClaim().WithPodUID(c.PodUID).WithPodName(c.PodName).WithNode(c.Node).WithPhase(c.Phase))
}

func condition(kind string, status metav1.ConditionStatus, reason string) *metav1apply.ConditionApplyConfiguration {
	return metav1apply.Condition().WithType(kind).WithStatus(status).WithReason(reason).WithMessage("").WithLastTransitionTime(metav1.Unix(1e9, 0))
}

func write(t *testing.T, ns, name, manager string, status *apply.CheckpointStatusApplyConfiguration) {
	t.Helper()
	if _, err := applyStatus(t, ns, name, manager, status); err != nil {
		t.Fatal(err)
	}
}

func applyStatus(t *testing.T, ns, name, manager string, status *apply.CheckpointStatusApplyConfiguration) (*v1alpha1.Checkpoint, error) {
	return client.CheckpointV1alpha1().Checkpoints(ns).ApplyStatus(
		t.Context(), apply.Checkpoint(name, ns).WithStatus(status), metav1.ApplyOptions{FieldManager: manager, Force: true})
}

func read(t *testing.T, ns, name string) *v1alpha1.Checkpoint {
	t.Helper()
	c, err := client.CheckpointV1alpha1().Checkpoints(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
