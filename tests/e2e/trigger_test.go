package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// A Checkpoint says why its pod was terminated, and however that was, the pod's work goes on. Nodes are cordoned and tainted, so no other test may run
// meanwhile.
func TestACheckpointSaysWhyItsPodWasTerminated(t *testing.T) {
	c := labelled(t)
	evict := func(t *testing.T, pod *corev1.Pod) {
		t.Helper()
		eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
		if err := c.Client.PolicyV1().Evictions(pod.Namespace).Evict(t.Context(), eviction); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		want   v1alpha1.CheckpointTrigger
		end    func(t *testing.T, pod *corev1.Pod)
		change func(*corev1.PodTemplateSpec)
	}{
		{want: v1alpha1.TriggerDelete, end: func(t *testing.T, pod *corev1.Pod) {
			t.Helper()
			if err := c.Client.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}},
		{want: v1alpha1.TriggerEviction, end: evict},
		{want: v1alpha1.TriggerDrain, end: func(t *testing.T, pod *corev1.Pod) {
			t.Helper()
			cordon(t, c, pod.Spec.NodeName)
			evict(t, pod)
		}},
		{want: v1alpha1.TriggerTaint, end: func(t *testing.T, pod *corev1.Pod) { t.Helper(); taint(t, c, pod.Spec.NodeName) }},
		{
			want: v1alpha1.TriggerPreemption, end: func(t *testing.T, pod *corev1.Pod) { t.Helper(); preempt(t, c, pod) },
			change: func(template *corev1.PodTemplateSpec) {
				template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
			},
		},
	} {
		t.Run(string(test.want), func(t *testing.T) {
			w, pod := newWorkload(t, c, deployment, test.change)
			before := waitForCount(t, c, pod, 5)
			test.end(t, pod)
			found := w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
			if found.Spec.Trigger != test.want {
				t.Errorf("it says %s", found.Spec.Trigger)
			}
			w.goesOn(t, w.running(t, pod), before, nil)
		})
	}
}

// What a probe gave up is kept, and told apart, but no other pod is given up for the same by itself.
func TestWhatAProbeGaveUpIsRestoredOnlyByItsName(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, job, func(template *corev1.PodTemplateSpec) {
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		template.Spec.Containers[0].LivenessProbe = &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/file/scratch/alive", Port: intstr.FromInt32(8080)}},
			PeriodSeconds: 1, FailureThreshold: 3, InitialDelaySeconds: 30, TimeoutSeconds: 5,
		}
	})
	before := waitForCount(t, c, pod, 3)
	found := w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	if found.Spec.Trigger != v1alpha1.TriggerProbe {
		t.Errorf("it says %s", found.Spec.Trigger)
	}
	next := w.running(t, pod)
	put(t, c, next, "/scratch/alive", "yes")
	if said := w.restored(t, next); said.Status != corev1.ConditionFalse || said.Reason != keys.ColdNoCheckpoint || !strings.Contains(said.Message, found.Name) {
		t.Errorf("the next pod says %+v", said)
	}
	w.policy(t, v1alpha1.RestorePolicySpec{Source: v1alpha1.RestoreNamed, CheckpointName: found.Name})
	w.deletePod(t, next)
	w.goesOn(t, w.running(t, next), before, nil)
}

// taint has a node send its pods away, until the test ends.
func taint(t *testing.T, c *lab.Cluster, node string) {
	t.Helper()
	patch := func(ctx context.Context, taints string) {
		data := []byte(`{"spec":{"taints":` + taints + `}}`)
		if _, err := c.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, data, metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	}
	patch(t.Context(), `[{"key":"e2e","effect":"NoExecute"}]`)
	t.Cleanup(func() { patch(context.Background(), "null") })
}

// preempt has a pod of a higher priority take the place of another on its node.
func preempt(t *testing.T, c *lab.Cluster, pod *corev1.Pod) {
	t.Helper()
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}, Value: 1000}
	class, err := c.Client.SchedulingV1().PriorityClasses().Create(t.Context(), class, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Client.SchedulingV1().PriorityClasses().Delete(context.Background(), class.Name, metav1.DeleteOptions{})
	})
	spec := onNode(serving(), pod.Spec.NodeName)
	spec.PriorityClassName = class.Name
	spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1500m")}
	other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: "urgent"}, Spec: spec}
	lab.Eventually(t, 10*time.Second, "a pod of a higher priority is made", func() error { // admission may not have heard of the class yet
		_, err := c.Client.CoreV1().Pods(pod.Namespace).Create(t.Context(), other, metav1.CreateOptions{})
		return err
	})
}
