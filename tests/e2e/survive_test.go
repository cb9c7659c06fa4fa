package e2e

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// files are what a pod leaves in its root file system, an emptyDir and the shared memory.
var files = map[string]string{"/left-behind": "in the root", "/scratch/left-behind": "in an emptyDir", "/dev/shm/left-behind": "in the shared memory"}

func TestWorkSurvivesTheDeletionOfItsPod(t *testing.T) {
	for _, kind := range []string{job, deployment, statefulSet, plainPod} {
		for _, elsewhere := range []bool{false, true} {
			where := "on the same node"
			if elsewhere {
				where = "on another node"
			}
			t.Run(kind+" "+where, func(t *testing.T) {
				c := labelled(t)
				w, pod := newWorkload(t, c, kind, nil)
				if cold := w.restored(t, pod); cold.Status != "False" || cold.Reason != keys.ColdNoCheckpoint {
					t.Errorf("the first pod says %+v", cold)
				}
				for path, content := range files {
					put(t, c, pod, path, content)
				}
				before := waitForCount(t, c, pod, 10)
				other := map[string]string{"worker-1": "worker-2", "worker-2": "worker-1"}[pod.Spec.NodeName]
				want := pod.Spec.NodeName
				if elsewhere {
					want = other
				}
				cordon(t, c, map[bool]string{true: pod.Spec.NodeName, false: other}[elsewhere])
				w.deletePod(t, pod)
				next := w.running(t, pod)
				if next.Spec.NodeName != want {
					t.Errorf("the new pod is on %s, want %s", next.Spec.NodeName, want)
				}
				w.goesOn(t, next, before, files)
				checkpoint := w.checkpoint(t, pod, "is consumed", func(c *v1alpha1.Checkpoint) error {
					if claim := c.Status.Claim; claim == nil || claim.Phase != v1alpha1.ClaimConsumed || claim.PodUID != next.UID {
						return fmt.Errorf("its claim is %+v", c.Status.Claim)
					}
					return is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted)(c)
				})
				if objectsOf(t, "", checkpoint) == 0 {
					t.Error("the bucket has nothing of it")
				}
			})
		}
	}
}

func TestAPodThatIsNotToBeRestoredStartsCold(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, nil)
	before := waitForCount(t, c, pod, 20)
	w.template.Labels[keys.RestoreMode] = keys.False
	w.deletePod(t, pod)
	next := w.running(t, pod)
	if cold := w.restored(t, next); cold.Status != "False" || cold.Reason != keys.ColdRestoreDisabled {
		t.Errorf("it says %+v", cold)
	}
	if now := w.countOf(t, next); now.Count >= before.Count {
		t.Errorf("before it was %+v, now it is %+v", before, now)
	}
}

func TestADeletedCheckpointTakesItsDataAlong(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, statefulSet, nil)
	scale(t, w, 0)
	w.awaitGone(t, pod)
	checkpoint := w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	all := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns)
	if err := all.Delete(t.Context(), checkpoint.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventuallyGone(t, "the Checkpoint", func() error {
		_, err := all.Get(t.Context(), checkpoint.Name, metav1.GetOptions{})
		return err
	})
	if left := objectsOf(t, "", checkpoint); left > 0 {
		t.Errorf("the bucket still has %d objects of it", left)
	}
	scale(t, w, 1)
	next := w.running(t, pod)
	if cold := w.restored(t, next); cold.Reason != keys.ColdNoCheckpoint {
		t.Errorf("after its Checkpoint was deleted the pod says %+v", cold)
	}
}
