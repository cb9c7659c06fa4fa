package pod

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// owning is the Job of jobPod, as it is without a webhook: it counts every pod that is deleted.
func owning(failed int32, changes ...func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "work", UID: "job-uid"},
		Spec: batchv1.JobSpec{BackoffLimit: new(int32(6)), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever}}},
		Status: batchv1.JobStatus{Failed: failed},
	}
	for _, change := range changes {
		change(j)
	}
	return j
}

func ignoring(j *batchv1.Job) {
	j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}}}}
}

// deletedJobPod is a pod that runs under its Job's eyes, and is being deleted.
func deletedJobPod(changes ...func(*corev1.Pod)) *corev1.Pod {
	return jobPod(append([]func(*corev1.Pod){terminating, func(p *corev1.Pod) { p.Finalizers = []string{batchv1.JobTrackingFinalizer} }}, changes...)...)
}

func disruptionOf(t *testing.T, r *Reconciler, pod *corev1.Pod) *corev1.PodCondition {
	t.Helper()
	current := &corev1.Pod{}
	if err := r.Get(t.Context(), client.ObjectKeyFromObject(pod), current); err != nil {
		t.Fatal(err)
	}
	return podspec.Condition(current, corev1.DisruptionTarget)
}

func TestAJobsPodIsMarkedWhenItIsTerminated(t *testing.T) {
	marked := &corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: keys.DisruptionWithCheckpoint,
		Message: "the pod is deleted, and its state is captured for its successor", LastTransitionTime: metav1.NewTime(time.Unix(1e9, 0)),
	}
	foreign := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"}
	failed := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, Reason: keys.DisruptionCaptureFailed}
	has := func(c corev1.PodCondition) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.Conditions = append(p.Status.Conditions, c) }
	}
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want *corev1.PodCondition
	}{
		"it runs":                         {deletedJobPod(), marked},
		"it is not terminated":            {jobPod(), nil},
		"it has failed by itself":         {deletedJobPod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), nil},
		"it has not started":              {deletedJobPod(func(p *corev1.Pod) { p.Status.ContainerStatuses = nil }), nil},
		"it slipped past admission":       {deletedJobPod(func(p *corev1.Pod) { p.Annotations = nil }), nil},
		"it is evicted":                   {deletedJobPod(has(foreign)), &foreign},
		"the agent says that it was lost": {deletedJobPod(has(failed)), &failed},
	} {
		r, _ := newReconciler(t, test.pod, owning(0))
		for range 2 {
			reconcile(t, r, test.pod)
		}
		if diff := cmp.Diff(test.want, disruptionOf(t, r, test.pod)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestAStalePodIsNotMarkedOverTheAgentsWord(t *testing.T) {
	pod := deletedJobPod()
	r, _ := newReconciler(t, pod, owning(0))
	seen := &corev1.Pod{}
	if err := r.Get(t.Context(), client.ObjectKeyFromObject(pod), seen); err != nil {
		t.Fatal(err)
	}
	now := seen.DeepCopy()
	now.Status.Conditions = append(now.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, Reason: keys.DisruptionCaptureFailed,
	})
	if err := r.Status().Update(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if err := r.mark(t.Context(), seen); err != nil {
		t.Fatal(err)
	}
	if c := disruptionOf(t, r, pod); c.Status != corev1.ConditionFalse {
		t.Errorf("it is %+v", c)
	}
}

func TestAJobIsToldOnceWhatItBears(t *testing.T) {
	kept := func(j *batchv1.Job) {
		j.Annotations = map[string]string{keys.JobFailurePolicy: keys.JobFailurePolicyKeep}
	}
	onFailure := func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }
	failing := func(j *batchv1.Job) {
		ignoring(j)
		j.Spec.PodFailurePolicy.Rules[0].Action = batchv1.PodFailurePolicyActionFailJob
	}
	perIndex := func(j *batchv1.Job) {
		j.Spec.BackoffLimitPerIndex, j.Spec.BackoffLimit = new(int32(2)), new(int32(1<<31-1))
	}
	evicted := func(since time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodFailed
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "TerminationByKubelet",
				LastTransitionTime: metav1.NewTime(time.Unix(1e9, 0).Add(-since))}}
		}
	}
	tracked := func(p *corev1.Pod) { p.Finalizers = []string{batchv1.JobTrackingFinalizer} }
	const resumed = "Pod work-abcde is captured and will be resumed. "
	for name, test := range map[string]struct {
		job  *batchv1.Job
		pod  *corev1.Pod
		want string
	}{
		"it was made before": {owning(0), deletedJobPod(), "Normal ResumesLeft " + resumed + "Its end counts as failure 1 of the Job, and backoffLimit is 6: " +
			"it bears 5 more. Raise spec.backoffLimit, or make the Job anew: captured pods do not count there."},
		"it opted out": {owning(3, kept), deletedJobPod(), "Normal ResumesLeft " + resumed + "Its end counts as failure 4 of the Job, and backoffLimit is 6: " +
			"it bears 2 more. Raise spec.backoffLimit, or make a new Job without the annotation memverge.ai/job-failure-policy: captured pods do not count there."},
		"the last one": {owning(5, onFailure), deletedJobPod(), "Warning NoResumesLeft " + resumed + "Its end counts as failure 6 of the Job, and backoffLimit is " +
			"6: the next one fails it. Raise spec.backoffLimit, or make a new Job with restartPolicy Never: captured pods do not count there."},
		"one too many": {owning(6), deletedJobPod(), "Warning NoResumesLeft Pod work-abcde is captured, but not resumed: its end is failure 7 of the Job, " +
			"and backoffLimit is 6. Raise spec.backoffLimit, or make the Job anew: captured pods do not count there."},
		"a policy of its own": {owning(0, failing), deletedJobPod(), "Warning NoResumesLeft Pod work-abcde is captured, but not resumed: the Job's " +
			"podFailurePolicy fails the Job for its end. Raise spec.backoffLimit, or make a new Job whose podFailurePolicy begins with a rule Ignore " +
			"on the pod condition DisruptionTarget."},
		"each index for itself": {owning(0, perIndex), deletedJobPod(func(p *corev1.Pod) {
			p.Annotations[batchv1.JobCompletionIndexAnnotation], p.Annotations[batchv1.JobIndexFailureCountAnnotation] = "3", "0"
		}), "Normal ResumesLeft " + resumed + "Its end counts as failure 1 of index 3, and backoffLimitPerIndex is 2: it bears 1 more. " +
			"Raise spec.backoffLimitPerIndex in a new Job, or make the Job anew: captured pods do not count there."},
		"kubelet evicted it": {owning(0), jobPod(tracked, evicted(time.Second)), "Normal ResumesLeft " + resumed + "Its end counts as failure 1 of the Job, " +
			"and backoffLimit is 6: it bears 5 more. Raise spec.backoffLimit, or make the Job anew: captured pods do not count there."},
		"kubelet evicted it long ago": {owning(1), jobPod(evicted(time.Hour)), ""},
		"its pods do not count":       {owning(0, ignoring), deletedJobPod(), ""},
		"its pod goes on":             {owning(0), jobPod(), ""},
		"it is another one":           {owning(0, func(j *batchv1.Job) { j.UID = "other" }), deletedJobPod(), ""},
	} {
		r, told := newReconciler(t, test.pod, test.job)
		for range 3 {
			reconcile(t, r, test.pod)
		}
		var events []string
		for len(told.Events) > 0 {
			if event := <-told.Events; !strings.Contains(event, "CheckpointRequested") {
				events = append(events, event)
			}
		}
		if diff := cmp.Diff(test.want, strings.Join(events, "\n")); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// The Job controller counts a pod at any moment, also between two reads.
func TestAPodIsNotCountedTwice(t *testing.T) {
	stays := func(p *corev1.Pod) { p.Finalizers = append(p.Finalizers, "example.com/other") }
	for _, test := range []struct {
		name string
		pod  *corev1.Pod
		from int // before the first read it may be gone, and nothing to tell of
	}{{"it stays", deletedJobPod(stays), 1}, {"it goes", deletedJobPod(), 2}} {
		name, pod := test.name, test.pod
		for reads := test.from; reads <= 4; reads++ {
			r, told := newReconciler(t, pod, owning(0))
			r.Live = &counting{Client: r.Client, pod: client.ObjectKeyFromObject(pod), wait: reads}
			if err := r.tellJob(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			if len(told.Events) == 0 {
				t.Fatalf("%s, and is counted before read %d: no event", name, reads)
			}
			if event := <-told.Events; !strings.Contains(event, "Its end counts as failure 1 of the Job") {
				t.Errorf("%s, and is counted before read %d: %s", name, reads, event)
			}
		}
	}
}

// counting is a Job controller that counts a pod before a certain read.
type counting struct {
	client.Client
	pod  client.ObjectKey
	wait int
}

func (c *counting) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if c.wait--; c.wait == 0 {
		pod, job := &corev1.Pod{}, &batchv1.Job{}
		if err := errors.Join(c.Client.Get(ctx, c.pod, pod), c.Client.Get(ctx, client.ObjectKey{Namespace: c.pod.Namespace, Name: "work"}, job)); err != nil {
			return err
		}
		job.Status.Failed++
		pod.Finalizers = slices.DeleteFunc(pod.Finalizers, func(f string) bool { return f == batchv1.JobTrackingFinalizer })
		if err := errors.Join(c.Status().Update(ctx, job), c.Update(ctx, pod)); err != nil {
			return err
		}
	}
	return c.Client.Get(ctx, key, object, options...)
}
