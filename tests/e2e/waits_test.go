package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// leaves has a pod captured while it goes on, by a wish with that number, and returns what it counted before.
func (w *workload) leaves(t *testing.T, pod *corev1.Pod, number int) answer {
	t.Helper()
	before := w.countOf(t, pod)
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"wish-%d"}}}`, keys.CheckpointTrigger, number)
	if _, err := w.c.Client.CoreV1().Pods(w.ns).Patch(t.Context(), pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 2*time.Minute, fmt.Sprintf("the state by wish %d", number), func() error {
		sum := sha256.Sum256(fmt.Appendf(nil, "wish-%d", number))
		name := v1alpha1.LiveName(pod.Name, pod.UID, "a"+hex.EncodeToString(sum[:])[:8])
		c, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return isComplete(c)
	})
	return before
}

// This waits for kubelet's pauses between two starts of a container. It stands in one of the last files: of the tests that run side by side those begin
// first.

// A container that fails goes on, in its pod, from what that left last, and from nothing of before it last began from scratch. It needs neither the manager nor
// an agent for that.
func TestAContainerThatEndsGoesOnFromWhatItsPodLeftLast(t *testing.T) {
	t.Parallel()
	for _, wasRestored := range []bool{false, true} {
		t.Run(fmt.Sprintf("restored before %t", wasRestored), func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) { template.Spec.RestartPolicy = corev1.RestartPolicyAlways })
			w.policy(t, v1alpha1.RestorePolicySpec{ContainerRestarts: new(int32(1))})
			w.create(t)
			pod := w.running(t, nil)
			if wasRestored {
				w.deletePod(t, pod)
				pod = w.running(t, pod)
			}
			put(t, c, pod, "/scratch/one", "1")
			waitForCount(t, c, pod, 3)
			w.leaves(t, pod, 1)
			put(t, c, pod, "/scratch/two", "2")
			last := w.leaves(t, pod, 2)
			put(t, c, pod, "/scratch/three", "3")

			asks("exit", "code", "7")(t, w, pod)
			w.says(t, pod, 1, corev1.ConditionTrue, keys.RestoredFromCheckpoint, "the last that this pod left by RestorePolicy mine")
			if got := w.countOf(t, pod); got.Count < last.Count || got.PID != last.PID {
				t.Errorf("it was captured at %+v, and is at %+v", last, got)
			}
			for file, want := range map[string]bool{"one": true, "two": true, "three": false} {
				if _, err := ask(t.Context(), c, pod, "file/scratch/"+file, nil); (err == nil) != want {
					t.Errorf("file %s: %v, it should be there: %t", file, err, want)
				}
			}

			asks("exit", "code", "7")(t, w, pod)
			w.says(t, pod, 2, corev1.ConditionFalse, keys.ColdRestarted, "containerRestarts of RestorePolicy mine is 1")
			asks("exit", "code", "7")(t, w, pod) // and what was left before it began from scratch does not count
			w.says(t, pod, 3, corev1.ConditionFalse, keys.ColdRestarted, "containerRestarts of RestorePolicy mine is 1")

			waitForCount(t, c, pod, 3)
			last = w.leaves(t, pod, 3)
			asks("exit", "code", "7")(t, w, pod)
			w.says(t, pod, 4, corev1.ConditionTrue, keys.RestoredFromCheckpoint, "1 of 1 times")
			if got := w.countOf(t, pod); got.Count < last.Count {
				t.Errorf("it was captured at %+v, and is at %+v", last, got)
			}

			before := w.leaves(t, pod, 4) // and the line goes on in the next pod
			w.deletePod(t, pod)
			w.goesOn(t, w.running(t, pod), before, nil)
		})
	}
}
