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

// byHand makes a Checkpoint as a person does, with the name of a pod alone.
func (w *workload) byHand(t *testing.T, name string, pod *corev1.Pod, change func(*v1alpha1.CheckpointSpec)) {
	t.Helper()
	wanted := &v1alpha1.Checkpoint{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.CheckpointSpec{SourcePodName: pod.Name}}
	if change != nil {
		change(&wanted.Spec)
	}
	if _, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Create(t.Context(), wanted, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// named waits until a Checkpoint of that name passes a check.
func (w *workload) named(t *testing.T, name string, check func(*v1alpha1.Checkpoint) error) *v1alpha1.Checkpoint {
	t.Helper()
	var found *v1alpha1.Checkpoint
	lab.Eventually(t, 2*time.Minute, "Checkpoint "+name, func() (err error) {
		found, err = operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return check(found)
	})
	return found
}

// undisturbed checks that a pod has gone on.
func undisturbed(t *testing.T, before, now answer) {
	t.Helper()
	if now.Host != before.Host || now.PID != before.PID || now.Count <= before.Count {
		t.Errorf("it counts %+v; before it was %+v", now, before)
	}
}

// A Checkpoint made by hand has a pod captured that goes on. When that fails, the pod in its place goes on from there.
func TestAPodThatFailsGoesOnFromACheckpointMadeByHand(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, job, onWorker1)
	put(t, c, pod, "/scratch/mine", "before")
	before := waitForCount(t, c, pod, 3)
	w.byHand(t, "first", pod, nil)
	made := w.named(t, "first", isComplete)
	if made.Spec.Trigger != v1alpha1.TriggerManual || made.Status.Source == nil || made.Status.Source.PodUID != pod.UID || made.Status.SizeBytes == nil {
		t.Errorf("it is %+v, %+v", made.Spec, made.Status)
	}
	undisturbed(t, before, w.countOf(t, pod))
	asks("exit", "code", "7")(t, w, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, map[string]string{"/scratch/mine": "before"})
	if used := w.named(t, "first", func(*v1alpha1.Checkpoint) error { return nil }); used.Status.Claim == nil || used.Status.Claim.PodUID != next.UID {
		t.Errorf("its claim is %+v", used.Status.Claim)
	}
	asks("exit", "code", "7")(t, w, next) // nothing is gone on from twice
	w.cold(t, w.running(t, next), keys.ColdNoCheckpoint)
}

// As long as a pod goes on, nobody does its work as well; and of what it leaves the last counts.
func TestACheckpointOfAPodThatGoesOnIsNobodysToRestore(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, onWorker1)
	before := waitForCount(t, c, pod, 3)
	w.byHand(t, "first", pod, nil)
	w.named(t, "first", isComplete)
	scale(t, w, 2)
	var second *corev1.Pod
	lab.Eventually(t, time.Minute, "a second pod", func() error {
		pods, err := c.Client.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + workloadName})
		for i := range pods.Items {
			if p := &pods.Items[i]; p.UID != pod.UID && p.Status.PodIP != "" {
				second = p
				return nil
			}
		}
		return fmt.Errorf("it has %d pods: %w", len(pods.Items), err)
	})
	w.cold(t, second, keys.ColdNoCheckpoint)
	now := w.countOf(t, pod)
	undisturbed(t, before, now)
	w.deletePod(t, pod)
	var third *corev1.Pod
	lab.Eventually(t, time.Minute, "a third pod", func() error {
		pods, err := c.Client.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + workloadName})
		for i := range pods.Items {
			if p := &pods.Items[i]; p.UID != pod.UID && p.UID != second.UID && p.Status.PodIP != "" {
				third = p
				return nil
			}
		}
		return fmt.Errorf("it has %d pods: %w", len(pods.Items), err)
	})
	w.goesOn(t, third, now, nil)
	if claim := w.checkpoint(t, pod, "is claimed", isComplete).Status.Claim; claim == nil || claim.PodUID != third.UID {
		t.Errorf("the last one's claim is %+v", claim)
	}
}

// With postCheckpoint: Stop the pod is evicted once it is captured.
func TestACheckpointMadeByHandStopsItsPod(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, nil)
	before := waitForCount(t, c, pod, 3)
	w.byHand(t, "stop", pod, func(s *v1alpha1.CheckpointSpec) { s.PostCheckpoint = v1alpha1.PostCheckpointStop })
	w.named(t, "stop", isComplete)
	w.goesOn(t, w.running(t, pod), before, nil)
	if trigger := w.checkpoint(t, pod, "is complete", isComplete).Spec.Trigger; trigger != v1alpha1.TriggerEviction {
		t.Errorf("its last one comes from %s", trigger)
	}
}

// What cannot be captured fails, and says why; agents and managers that are killed meanwhile change nothing.
func TestACheckpointMadeByHandFails(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].LivenessProbe = &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/testapp", "version"}}},
			FailureThreshold: 1, PeriodSeconds: 60, InitialDelaySeconds: 300,
		}
	})
	w.byHand(t, "impatient", pod, nil)
	w.byHand(t, "nobody", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "nobody"}}, nil)
	w.byHand(t, "another", pod, func(s *v1alpha1.CheckpointSpec) { s.SourcePodUID = "0f2d4c1a-93c1-4f7e-8a3d-5b8f3f6f1c2e" })
	for name, says := range map[string]string{
		"impatient": v1alpha1.ReasonFreezeBudget + `: it would stand still for about 300ms, and the liveness probe of container "app" forgives 0s`,
		"nobody":    v1alpha1.ReasonSourceNotFound + ": there is no pod nobody in namespace " + w.ns,
		"another":   v1alpha1.ReasonSourceReplaced + ": pod work has the UID " + string(pod.UID) + "; spec.sourcePodUID is 0f2d4c1a-93c1-4f7e-8a3d-5b8f3f6f1c2e",
	} {
		failed := w.named(t, name, is(v1alpha1.CheckpointReady, metav1.ConditionFalse, v1alpha1.StateFailed))
		text := fmt.Sprint(failed.Status.Conditions)
		if !strings.Contains(text, says) {
			t.Errorf("Checkpoint %s says %s; want %q", name, text, says)
		}
	}
	if now := w.countOf(t, pod); now.Host == "" {
		t.Error("the pod does not answer")
	}
}
