package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// left makes the capture in a folder one of a pod that went on.
func (b *bench) left(pod *corev1.Pod, name, checkpoint string) (dir string) {
	b.t.Helper()
	dir = b.captured(pod, name, capture.Complete)
	record, err := capture.Read(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	record.Trigger = capture.Trigger{Asks: &capture.Asks{Checkpoint: checkpoint, UID: checkpoint + "-uid"}}
	b.write(filepath.Join(dir, capture.UploadedFile), "")
	if err := record.Write(dir); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

func TestTheLastStateOfAPodThatIsRestartedStaysOnItsNode(t *testing.T) {
	pod := newPod("a")
	b := newBench(t, pod)
	first, last := b.left(pod, "1", "one"), b.left(pod, "2", "two")
	serves := func(dir string) bool {
		record, err := capture.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		return b.servesRestarts(dir, record)
	}
	if serves(last) {
		t.Error("it stays though nothing is decided for its pod")
	}
	if err := b.Node.Decide("a-uid", capture.Decision{Action: capture.Cold, Reason: keys.ColdNoCheckpoint, Restarts: 1}); err != nil {
		t.Fatal(err)
	}
	if !serves(last) || serves(first) {
		t.Errorf("the last stays: %t, the one before: %t", serves(last), serves(first))
	}
	if h := b.holds(); len(h.cached) != 1 || h.cached[0].dir != first {
		t.Errorf("what may go for its room is %+v", h.cached)
	}
	if !b.isThere(t.Context(), capture.Pod{Namespace: "default", Name: "a", UID: "a-uid"}) {
		t.Error("its pod is not there")
	}
	for _, uid := range []string{"another-uid", ""} {
		if b.isThere(t.Context(), capture.Pod{Namespace: "default", Name: "a", UID: uid}) {
			t.Errorf("a pod with the UID %q is there", uid)
		}
	}
	if err := os.RemoveAll(last); err != nil || !serves(first) {
		t.Errorf("the last is gone, %v, and the one before stays: %t", err, serves(first))
	}
}

func TestWhatBecameOfAContainerThatEndedIsTold(t *testing.T) {
	pod := newPod("a", func(p *corev1.Pod) {
		p.Spec.Containers, p.Status.Phase = []corev1.Container{{Name: "app"}}, corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ContainerID: "containerd://second", RestartCount: 1}}
	})
	policy := &v1alpha1.RestorePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine"}}
	policy.Spec.Selector, policy.Spec.ContainerRestarts = &metav1.LabelSelector{}, new(int32(3))
	b := newBench(t, pod, policy)
	pod.Status.Phase = corev1.PodPending
	if _, err := b.decide(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodRunning
	d := b.decision(pod)
	if d.Action != capture.Cold || d.Restarts != 3 || d.Policy != "mine" {
		t.Fatalf("the decision is %+v", d)
	}
	says := func(status corev1.ConditionStatus, reason string, words ...string) {
		t.Helper()
		stored := &corev1.Pod{}
		if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), stored); err != nil {
			t.Fatal(err)
		}
		stored.Status.ContainerStatuses = pod.Status.ContainerStatuses
		if err := b.Client.Status().Update(t.Context(), stored); err != nil {
			t.Fatal(err)
		}
		b.reconcile(pod)
		c := b.restored(pod)
		if c.Status != status || c.Reason != reason {
			t.Errorf("it says %+v", c)
		}
		for _, word := range words {
			if !strings.Contains(c.Message, word) {
				t.Errorf("it says %q, without %q", c.Message, word)
			}
		}
	}
	line := func(l capture.Line) {
		t.Helper()
		if err := b.Node.SetLine("a-uid", "app", l); err != nil {
			t.Fatal(err)
		}
	}
	line(capture.Line{Containers: []string{"first"}, Afresh: true})
	says(corev1.ConditionFalse, keys.ColdNoCheckpoint)
	line(capture.Line{Containers: []string{"second"}, Afresh: true, Why: "the operator is paused"})
	says(corev1.ConditionFalse, keys.ColdNoCheckpoint, `container "app" has begun from scratch since then: the operator is paused`)

	if err := b.Node.GoOnFrom("a-uid", d, capture.Fetched{Checkpoint: "one", Directory: t.TempDir()}, "app"); err != nil {
		t.Fatal(err)
	}
	line(capture.Line{Containers: []string{"first", "second"}, Afresh: true})
	r := capture.Result{ContainerID: "second", Outcome: capture.Restored, Consumed: true, Again: 2, Own: "one"}
	b.tells(pod, r)
	says(corev1.ConditionTrue, keys.RestoredFromCheckpoint, "continues from Checkpoint one, the last that this pod left by RestorePolicy mine", "2 of 3 times")

	pod.Status.ContainerStatuses[0].ContainerID, pod.Status.ContainerStatuses[0].RestartCount = "containerd://third", 2
	says(corev1.ConditionTrue, keys.RestoredFromCheckpoint) // of one that is being restored nothing else is said yet
	line(capture.Line{Containers: []string{"third"}, Afresh: true, Why: "that was often enough"})
	says(corev1.ConditionFalse, keys.ColdRestarted, `container "app" has begun from scratch since then: that was often enough`)
}
