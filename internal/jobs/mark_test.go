package jobs

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

var asked = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// jobPod is a pod of a Job that runs, and of which the deletion was asked for.
func jobPod(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "work-abcde", UID: "pod-uid", Finalizers: []string{batchv1.JobTrackingFinalizer}, Annotations: map[string]string{},
			DeletionTimestamp: new(metav1.NewTime(asked.Add(2 * time.Minute))), DeletionGracePeriodSeconds: new(int64(120)),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "work", UID: "job-uid", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main"}, {Name: "side"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		}},
	}
	for _, change := range changes {
		change(pod)
	}
	return pod
}

// exited adds a second container that has ended so long after the deletion was asked for.
func exited(code int32, after time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: "side", State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(asked.Add(after))}}})
	}
}

func disrupted(status corev1.ConditionStatus, reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: status, Reason: reason})
	}
}

func phase(is corev1.PodPhase) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.Phase = is } }

func untracked(p *corev1.Pod) { p.Finalizers = nil }

func onFailure(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }

func TestWhichPodsAreMarked(t *testing.T) {
	for name, test := range map[string]struct {
		pod            *corev1.Pod
		marked         bool
		unmarkedIfFail bool
	}{
		"one that is deleted while it runs":             {pod: jobPod(), marked: true, unmarkedIfFail: true},
		"one that is marked already":                    {pod: jobPod(disrupted(corev1.ConditionTrue, keys.DisruptionWithCheckpoint)), unmarkedIfFail: true},
		"one whose mark was taken back":                 {pod: jobPod(disrupted(corev1.ConditionFalse, keys.DisruptionCaptureFailed))},
		"one that is evicted keeps the API's own mark":  {pod: jobPod(disrupted(corev1.ConditionTrue, "EvictionByEvictionAPI"))},
		"one that is not deleted":                       {pod: jobPod(func(p *corev1.Pod) { p.DeletionTimestamp = nil })},
		"one that has failed":                           {pod: jobPod(phase(corev1.PodFailed))},
		"one that has succeeded":                        {pod: jobPod(phase(corev1.PodSucceeded))},
		"one that the Job controller is done with":      {pod: jobPod(untracked)},
		"one of a ReplicaSet":                           {pod: jobPod(func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "ReplicaSet" })},
		"one of another kind that is called Job":        {pod: jobPod(func(p *corev1.Pod) { p.OwnerReferences[0].APIVersion = "batch.example.com/v1" })},
		"one without an owner":                          {pod: jobPod(func(p *corev1.Pod) { p.OwnerReferences = nil })},
		"one in which a container had failed before":    {pod: jobPod(exited(3, -time.Second)), unmarkedIfFail: true},
		"one in which a container had succeeded before": {pod: jobPod(exited(0, -time.Second)), marked: true, unmarkedIfFail: true},
		"one in which a container was killed since":     {pod: jobPod(exited(137, time.Second)), marked: true, unmarkedIfFail: true},
		"one whose failed container is started again":   {pod: jobPod(exited(3, -time.Second), onFailure), marked: true, unmarkedIfFail: true},
		"one whose failed container restarts by itself": {pod: jobPod(exited(3, -time.Second), func(p *corev1.Pod) {
			p.Spec.Containers[1].RestartPolicy = new(corev1.ContainerRestartPolicyOnFailure)
		}), marked: true, unmarkedIfFail: true},
	} {
		if got := IsToBeMarked(test.pod); got != test.marked {
			t.Errorf("%s: to be marked: %t, should be %t", name, got, test.marked)
		}
		if got := IsToBeUnmarked(test.pod); got != test.unmarkedIfFail {
			t.Errorf("%s: to be unmarked when its capture fails: %t, should be %t", name, got, test.unmarkedIfFail)
		}
	}
}

func TestAMarkIsOfItsOwnTime(t *testing.T) {
	for _, c := range []corev1.PodCondition{Mark(asked), Unmark(asked)} {
		if c.Type != corev1.DisruptionTarget || !c.LastTransitionTime.Time.Equal(asked) || c.Reason == "" || c.Message == "" {
			t.Errorf("%+v", c)
		}
	}
}
