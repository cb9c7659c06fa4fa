package lineage

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func TestWhyAPodIsTerminated(t *testing.T) {
	deleted := func(p *corev1.Pod) { now := metav1.Now(); p.DeletionTimestamp = &now }
	disrupted := func(reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason}}
		}
	}
	byKubelet := func(reason string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			disrupted(corev1.PodReasonTerminationByKubelet)(p)
			p.Status.Phase, p.Status.Reason = corev1.PodFailed, reason
		}
	}
	givenUp := func(p *corev1.Pod) {
		p.Spec.Containers = []corev1.Container{{Name: "app", LivenessProbe: &corev1.Probe{}}}
		p.Status.Phase = corev1.PodFailed
		killed := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: killed}}
	}
	evicted := []func(*corev1.Pod){deleted, disrupted("EvictionByEvictionAPI")}
	cordoned := &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: true}}
	for name, test := range map[string]struct {
		changes []func(*corev1.Pod)
		node    *corev1.Node
		want    v1alpha1.CheckpointTrigger
	}{
		"it lives":                           {want: v1alpha1.TriggerTermination},
		"deleted":                            {changes: []func(*corev1.Pod){deleted}, want: v1alpha1.TriggerDelete},
		"deleted on a cordoned node":         {changes: []func(*corev1.Pod){deleted}, node: cordoned, want: v1alpha1.TriggerDelete},
		"a Job's, which we have marked":      {changes: []func(*corev1.Pod){deleted, disrupted("DeletionWithCheckpoint")}, want: v1alpha1.TriggerDelete},
		"evicted":                            {changes: evicted, node: &corev1.Node{}, want: v1alpha1.TriggerEviction},
		"evicted, of its node nothing known": {changes: evicted, want: v1alpha1.TriggerEviction},
		"drained":                            {changes: evicted, node: cordoned, want: v1alpha1.TriggerDrain},
		"preempted":                          {changes: []func(*corev1.Pod){deleted, disrupted("PreemptionByScheduler")}, want: v1alpha1.TriggerPreemption},
		"preempted by the kubelet":           {changes: []func(*corev1.Pod){byKubelet("Preempting")}, want: v1alpha1.TriggerPreemption},
		"tainted":                            {changes: []func(*corev1.Pod){deleted, disrupted("DeletionByTaintManager")}, want: v1alpha1.TriggerTaint},
		"under pressure":                     {changes: []func(*corev1.Pod){byKubelet("Evicted")}, want: v1alpha1.TriggerNodePressure},
		"under pressure, and deleted since":  {changes: []func(*corev1.Pod){byKubelet("Evicted"), deleted}, want: v1alpha1.TriggerNodePressure},
		"its node shuts down":                {changes: []func(*corev1.Pod){byKubelet("Terminated")}, want: v1alpha1.TriggerNodeShutdown},
		"its probe failed":                   {changes: []func(*corev1.Pod){givenUp}, want: v1alpha1.TriggerProbe},
		"its probe failed, it was deleted":   {changes: []func(*corev1.Pod){givenUp, deleted}, want: v1alpha1.TriggerDelete},
		"it took too long":                   {changes: []func(*corev1.Pod){givenUp, byKubelet("DeadlineExceeded")}, want: v1alpha1.TriggerTermination},
		"for a reason that is new":           {changes: []func(*corev1.Pod){deleted, disrupted("Other")}, want: v1alpha1.TriggerDelete},
	} {
		if got := TriggerOf(pod("a", test.changes...), test.node); got != test.want {
			t.Errorf("%s: it is %s, want %s", name, got, test.want)
		}
	}
}
