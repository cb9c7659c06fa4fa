package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// A namespace that is deleted is gone soon, and what was captured in it with it: its pods, which are captured at that very moment, its Checkpoints, and what
// the bucket and the node have of them.
func TestANamespaceTakesAllOfItsStatesWithIt(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, nil)
	waitForCount(t, c, pod, 3)
	w.deletePod(t, pod)
	next := w.running(t, pod)
	found := w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	if !isInBucket(t, found) {
		t.Fatal("its state is not in the bucket")
	}
	w.leaves(t, next, 1)

	began := time.Now()
	if err := c.Client.CoreV1().Namespaces().Delete(t.Context(), w.ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 3*time.Minute, "the namespace is gone", func() error {
		left, err := c.Client.CoreV1().Namespaces().Get(t.Context(), w.ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%w, %+v", err, left.Status.Conditions)
	})
	t.Logf("it was gone after %s", time.Since(began).Round(time.Second))
	lab.Eventually(t, 2*time.Minute, "nothing of it is left", func() error {
		states, err := operator.Objects(t.Context(), keys.StorageRoot+"/"+w.ns+"/")
		if err != nil || len(states) > 0 {
			return fmt.Errorf("the bucket has %v, %w", states, err)
		}
		for _, p := range []*corev1.Pod{pod, next} {
			folders := "/var/lib/checkpoint/captures/" + string(p.UID) + " /var/lib/checkpoint/restores/" + string(p.UID)
			if said := c.OnNode(t, p.Spec.NodeName, "find "+folders+" -name capture.json 2>/dev/null || true"); strings.TrimSpace(said) != "" {
				return fmt.Errorf("node %s has %s", p.Spec.NodeName, said)
			}
		}
		return nil
	})
}
