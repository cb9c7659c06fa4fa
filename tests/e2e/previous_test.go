package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// A pod goes on from what the first left, leaves something itself, and that does not serve.
func TestAPodGoesBackToTheStateBefore(t *testing.T) {
	for name, test := range map[string]struct {
		kind   string
		before func(*testing.T, *workload, *corev1.Pod)                       // the second pod goes
		spoil  func(*testing.T, *workload, *corev1.Pod, *v1alpha1.Checkpoint) // what it left
		says   string
	}{
		"as its capture failed": {kind: statefulSet, before: func(t *testing.T, w *workload, pod *corev1.Pod) {
			if _, err := ask(t.Context(), w.c, pod, "grow", map[string][]string{"mib": {"100"}}); err != nil {
				t.Fatal(err)
			}
		}, says: "there is nothing of Checkpoint"},
		"as the bucket has lost it": {kind: plainPod, spoil: func(t *testing.T, w *workload, pod *corev1.Pod, c *v1alpha1.Checkpoint) {
			w.c.OnNode(t, pod.Spec.NodeName, "rm -r /var/lib/checkpoint/captures/"+string(pod.UID))
			if err := operator.DropObjects(t.Context(), keys.StorageFolder(c.Namespace, c.Status.Source.Lineage), string(c.UID)); err != nil {
				t.Fatal(err)
			}
		}, says: "fetch Checkpoint"},
		"as CRIU does not take it": {kind: plainPod, spoil: func(t *testing.T, w *workload, pod *corev1.Pod, _ *v1alpha1.Checkpoint) {
			w.c.OnNode(t, pod.Spec.NodeName, ": > /var/lib/checkpoint/captures/"+string(pod.UID)+"/1/containers/app/criu/core-1.img")
		}, says: "did not serve"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := prepareWorkload(t, c, test.kind, func(template *corev1.PodTemplateSpec) {
				onWorker1(template)
				template.Labels[keys.CheckpointVolumeSize] = "64Mi"
			})
			w.policy(t, v1alpha1.RestorePolicySpec{Fallback: v1alpha1.FallbackPrevious, Attempts: new(int32(2))})
			w.create(t)
			first := w.running(t, nil)
			before := waitForCount(t, c, first, 10)
			w.deletePod(t, first)
			second := w.running(t, first)
			w.goesOn(t, second, before, nil)
			put(t, c, second, "/scratch/second", "2")
			if test.before != nil {
				test.before(t, w, second)
			}
			w.kind = statefulSet // whose deletion makes none
			w.deletePod(t, second)
			w.kind = test.kind
			state := v1alpha1.StateCompleted
			status := metav1.ConditionTrue
			if test.spoil == nil {
				state, status = v1alpha1.StateFailed, metav1.ConditionFalse
			}
			last := w.checkpoint(t, second, "is "+state, is(v1alpha1.CheckpointReady, status, state))
			if test.spoil != nil {
				test.spoil(t, w, second, last)
				w.create(t)
			}
			third := w.running(t, second)
			said := w.restored(t, third)
			if said.Status != corev1.ConditionTrue || said.Reason != keys.RestoredFromPrevious {
				t.Fatalf("it says %+v\n%s", said, w.events(t, third))
			}
			for _, part := range []string{"continues from Checkpoint " + v1alpha1.TerminationName(first.Name, first.UID), last.Name, test.says} {
				has(t, said.Message, part)
			}
			w.tells(t, third, keys.RestoredFromPrevious)
			if got := w.countOf(t, third); got.Count < before.Count || got.PID != before.PID {
				t.Errorf("the first was at %+v, the third is at %+v", before, got)
			}
			if later, err := ask(t.Context(), c, third, "file/scratch/second", nil); err == nil {
				t.Errorf("what the second wrote is %q", later)
			}
			w.checkpoint(t, second, "says from what the pod goes on", func(c *v1alpha1.Checkpoint) error {
				if claim := c.Status.Claim; claim == nil || claim.PodUID != third.UID || claim.RestoredFrom != v1alpha1.TerminationName(first.Name, first.UID) {
					return fmt.Errorf("its claim is %+v", claim)
				}
				return nil
			})
			if test.says == "did not serve" {
				if log := engineLog(t, w, third); strings.Count(log, "begun again") != 1 {
					t.Errorf("of two attempts the log says\n%s", log)
				}
			}
			w.deletePod(t, third) // and the line goes on
			fourth := w.running(t, third)
			w.goesOn(t, fourth, before, nil)
		})
	}
}

func engineLog(t *testing.T, w *workload, pod *corev1.Pod) string {
	t.Helper()
	return w.c.OnNode(t, pod.Spec.NodeName, "cat /run/checkpoint/log/"+string(pod.UID)+".log")
}

func TestAContainerThatEndsIsRestoredAgainWhereThePolicySaysSo(t *testing.T) {
	for name, test := range map[string]struct {
		volume  bool
		changes v1alpha1.VolumeChanges
		again   bool
		says    string // when it has begun from scratch
	}{
		"once":                            {again: true, says: "containerRestarts of RestorePolicy mine is 1"},
		"not where a volume has moved on": {volume: true, says: keys.ColdVolumeAdvanced + `: the state is from before what volume "out" holds`},
		"where its program bears that a volume has": {volume: true, changes: v1alpha1.VolumeChangesRestore, again: true, says: "is 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				template.Spec.RestartPolicy = corev1.RestartPolicyAlways
				if test.volume {
					cannotBeCaptured(template, "/var/lib/out-again")
					template.Spec.Containers[0].Args = []string{"serve"}
				}
			})
			w.policy(t, v1alpha1.RestorePolicySpec{ContainerRestarts: new(int32(1)), VolumeChanges: test.changes})
			w.create(t)
			first := w.running(t, nil)
			put(t, c, first, "/scratch/one", "1")
			before := waitForCount(t, c, first, 10)
			w.deletePod(t, first)
			next := w.running(t, first)
			w.goesOn(t, next, before, nil)
			put(t, c, next, "/scratch/two", "2")
			far := waitForCount(t, c, next, before.Count+100)
			restarts := int32(0)
			if test.again {
				asks("exit", "code", "7")(t, w, next)
				restarts++
				w.says(t, next, restarts, corev1.ConditionTrue, keys.RestoredFromCheckpoint, "restored again, 1 of 1 times")
				if got := w.countOf(t, next); got.Count < before.Count || got.PID != before.PID {
					t.Errorf("it was captured at %+v, ended at %+v, and is at %+v", before, far, got)
				}
				if one, err := ask(t.Context(), c, next, "file/scratch/one", nil); err != nil || one != "1" {
					t.Errorf("what was captured is %q, %v", one, err)
				}
				if two, err := ask(t.Context(), c, next, "file/scratch/two", nil); err == nil {
					t.Errorf("what came later is %q", two)
				}
			}
			asks("exit", "code", "7")(t, w, next)
			w.says(t, next, restarts+1, corev1.ConditionFalse, keys.ColdRestarted, test.says)
			if got := w.countOf(t, next); got.Count >= far.Count {
				t.Errorf("it was at %+v, and is at %+v from scratch", far, got)
			}
		})
	}
}

// says waits until a pod whose container kubelet has started anew so often says that of its restore.
func (w *workload) says(t *testing.T, pod *corev1.Pod, restarts int32, status corev1.ConditionStatus, reason, message string) {
	t.Helper()
	lab.Eventually(t, 90*time.Second, "its container was started anew", func() error {
		now, err := w.c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		app := now.Status.ContainerStatuses[0]
		for _, c := range now.Status.Conditions {
			if c.Type == keys.Restored && c.Status == status && c.Reason == reason && strings.Contains(c.Message, message) &&
				app.RestartCount == restarts && app.State.Running != nil {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v, its containers %+v", now.Status.Conditions, now.Status.ContainerStatuses)
	})
}
