package integration

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// ofTenMiB is how much the states of these tests take.
func ofTenMiB(status *v1alpha1.CheckpointStatus) { status.SizeBytes = new(int64(10 << 20)) }

// pin sets the label of a Checkpoint by which a person keeps it.
func pin(t *testing.T, ns, name, value string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, keys.CheckpointPin, value)
	if _, err := client.CheckpointV1alpha1().Checkpoints(ns).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestTheOldestCheckpointsGoUntilMaxSizeIsKept(t *testing.T) {
	s := newShop(t)
	s.keep(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.MaxSize = new(resource.MustParse("20Mi")) })
	kept := s.complete(t, "pinned", 4*time.Hour, ofTenMiB)
	pin(t, s.ns, kept.Name, `"true"`)
	oldest := s.complete(t, "oldest", 3*time.Hour, ofTenMiB)
	second := s.complete(t, "second", 2*time.Hour, ofTenMiB)
	newest := s.complete(t, "newest", time.Hour, ofTenMiB)
	s.expires(t, oldest, "more than 20Mi, which is what maxSize says")
	for _, c := range []*v1alpha1.Checkpoint{kept, second, newest} {
		s.stays(t, c)
	}
}

func TestAPinnedCheckpointOutlivesItsTTLAndItsOwner(t *testing.T) {
	s := newShop(t)
	c := s.complete(t, "kept", time.Hour, nil)
	awaitState(t, s.ns, c.Name, metav1.ConditionTrue, v1alpha1.StateCompleted)
	pin(t, s.ns, c.Name, `"true"`)
	awaitReferences(t, s.ns, c.Name, 0)
	s.keep(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.TTL = &metav1.Duration{Duration: time.Minute} })
	time.Sleep(2 * time.Second) // nothing happens
	s.stays(t, c)
	pin(t, s.ns, c.Name, "null")
	s.expires(t, c, "ttl")
}

func TestWhatWasRestoredMakesRoomForWhatWaits(t *testing.T) {
	s := newShop(t)
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"15Mi"}}}`, keys.NamespaceQuota)
	if _, err := shared.Client.CoreV1().Namespaces().Patch(t.Context(), s.ns, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	used := s.complete(t, "used", time.Hour, func(status *v1alpha1.CheckpointStatus) {
		ofTenMiB(status)
		status.Claim = newClaim(v1alpha1.ClaimConsumed)
		status.Claim.ConsumedTime = &metav1.Time{Time: time.Now()}
	})
	awaitState(t, s.ns, used.Name, metav1.ConditionTrue, v1alpha1.StateCompleted)
	waits := newCheckpoint()
	waits.GenerateName, waits.Name = "", "waits"
	if _, err := client.CheckpointV1alpha1().Checkpoints(s.ns).Create(t.Context(), waits, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	source := apply.CheckpointSource().WithPodUID(podUID).WithNode(s.node).WithLineage("one").WithIdentity("db-0")
	write(t, s.ns, waits.Name, keys.PublishFields, apply.CheckpointStatus().WithSource(source).WithSizeBytes(10<<20).WithConditions(
		condition(v1alpha1.CheckpointCaptured, metav1.ConditionTrue, v1alpha1.StateCompleted),
		condition(v1alpha1.CheckpointUploaded, metav1.ConditionFalse, v1alpha1.ReasonQuotaExceeded)))
	s.expires(t, used, "quota of 15Mi")
	if c := meta.FindStatusCondition(read(t, s.ns, waits.Name).Status.Conditions, v1alpha1.CheckpointReady); c == nil || c.Reason != v1alpha1.StateUploading {
		t.Errorf("the one that waits is %+v", c)
	}
}
