package e2e

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// The newest and the pinned one stay, however little room there is; what is pinned outlives its owner.
func TestMaxSizeEndsAllButTheNewestAndThePinned(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, statefulSet, nil)
	w.capturing(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.MaxSize = new(resource.MustParse("1")) })
	w.create(t)
	first := w.running(t, nil)
	second := w.again(t, first)
	kept := w.checkpoint(t, first, "is complete", isComplete)
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:"true"}}}`, keys.CheckpointPin)
	checkpoints := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns)
	if _, err := checkpoints.Patch(t.Context(), kept.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	kept = w.checkpoint(t, first, "has no owner", func(c *v1alpha1.Checkpoint) error {
		if len(c.OwnerReferences) > 0 {
			return fmt.Errorf("it goes with %v", c.OwnerReferences)
		}
		return nil
	})
	third := w.again(t, second)
	goes := w.checkpoint(t, second, "is there", func(*v1alpha1.Checkpoint) error { return nil })
	w.again(t, third)
	w.checkpoint(t, third, "is complete", isComplete)
	w.goes(t, goes)
	if err := c.Client.AppsV1().StatefulSets(w.ns).Delete(t.Context(), workloadName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.goes(t, w.checkpoint(t, third, "is there", func(*v1alpha1.Checkpoint) error { return nil }))
	if w.checkpoint(t, first, "stays", isComplete); !isInBucket(t, kept) {
		t.Error("the data of the pinned one is gone")
	}
}

// What is over the quota of its namespace stays on its node, and is sent when there is room.
func TestAStateOverTheQuotaWaitsOnItsNode(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, deployment, nil)
	quota := func(value string) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, keys.NamespaceQuota, value)
		if _, err := c.Client.CoreV1().Namespaces().Patch(t.Context(), w.ns, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	quota(`"1Ki"`)
	w.create(t)
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 10)
	w.scale(t, 0)
	w.awaitGone(t, pod)
	waits := w.checkpoint(t, pod, "waits for room", is(v1alpha1.CheckpointUploaded, metav1.ConditionFalse, v1alpha1.ReasonQuotaExceeded))
	for _, condition := range waits.Status.Conditions {
		if condition.Type == v1alpha1.CheckpointStalled {
			has(t, condition.Message, "the quota of namespace "+w.ns+" is 1Ki")
		}
	}
	if isInBucket(t, waits) {
		t.Error("it was sent all the same")
	}
	quota("null")
	w.checkpoint(t, pod, "is complete", isComplete)
	w.scale(t, 1)
	w.goesOn(t, w.running(t, nil), before, nil)
}
