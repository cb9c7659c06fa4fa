package agent

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// ofJob makes a pod one of a Job that is being deleted while it runs.
func ofJob(p *corev1.Pod) {
	p.OwnerReferences[0].APIVersion, p.OwnerReferences[0].Kind = "batch/v1", "Job"
	p.Finalizers, p.Spec.RestartPolicy, p.Status.Phase = []string{batchv1.JobTrackingFinalizer}, corev1.RestartPolicyNever, corev1.PodRunning
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	going(p)
}

func starting(p *corev1.Pod) { p.Status.Phase, p.Status.ContainerStatuses = corev1.PodPending, nil }

func (b *bench) disruption(pod *corev1.Pod) corev1.PodCondition {
	b.t.Helper()
	now := &corev1.Pod{}
	if err := b.Client.Get(b.t.Context(), client.ObjectKeyFromObject(pod), now); err != nil {
		b.t.Fatal(err)
	}
	if c := podspec.Condition(now, corev1.DisruptionTarget); c != nil {
		return *c
	}
	return corev1.PodCondition{}
}

func TestAJobsPodSaysWhetherItsEndIsACaptures(t *testing.T) {
	failing := []capture.State{capture.Dumping, capture.Failed}
	const yes, no, partial = corev1.ConditionTrue, corev1.ConditionFalse, "1.partial"
	evicted := func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: yes, Reason: "EvictionByEvictionAPI"})
	}
	staying := func(p *corev1.Pod) { p.DeletionTimestamp = nil }
	ofAnother := func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "ReplicaSet" }
	for name, test := range map[string]struct {
		pod      *corev1.Pod
		captures []capture.State // one after the other, before and after which the pod is looked at
		want     corev1.ConditionStatus
		reason   string
	}{
		"it is being deleted":                                  {newPod("a", ofJob), nil, yes, keys.DisruptionWithCheckpoint},
		"it has not started, as far as kubelet said":           {newPod("a", ofJob, starting), nil, "", ""},
		"and is captured all the same":                         {newPod("a", ofJob, starting), []capture.State{capture.Dumping}, yes, keys.DisruptionWithCheckpoint},
		"its capture fails":                                    {newPod("a", ofJob), failing, no, keys.DisruptionCaptureFailed},
		"its capture had failed before anybody could mark it":  {newPod("a", ofJob, starting), []capture.State{capture.Failed}, no, keys.DisruptionCaptureFailed},
		"it is evicted, and that is not ours to take back":     {newPod("a", ofJob, evicted), []capture.State{capture.Failed}, yes, "EvictionByEvictionAPI"},
		"it goes on, and the failed capture was of no account": {newPod("a", ofJob, staying), []capture.State{capture.Failed}, "", ""},
		"it is no Job's":                                       {newPod("a", ofJob, ofAnother), []capture.State{capture.Dumping}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, test.pod)
			reconcile := func() {
				if _, err := b.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(test.pod)}); err != nil {
					t.Fatal(err)
				}
			}
			reconcile()
			for i, state := range test.captures {
				dir := b.captured(test.pod, partial, state)
				if i == 0 {
					b.lock(string(test.pod.UID))
				}
				b.look(dir)
				reconcile()
			}
			got := b.disruption(test.pod)
			if got.Status != test.want || got.Reason != test.reason {
				t.Errorf("it says %+v", got)
			}
			if test.want != "" && test.reason != "EvictionByEvictionAPI" && !got.LastTransitionTime.Equal(new(metav1.NewTime(testNow))) {
				t.Errorf("it says so as of %s", got.LastTransitionTime)
			}
		})
	}
}
