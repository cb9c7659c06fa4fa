package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// labelledJob is a Job that gets a podFailurePolicy.
func labelledJob(change func(*batchv1.Job)) *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "work"}, Spec: jobSpec(map[string]string{keys.CheckpointMode: keys.True})}
	if change != nil {
		change(job)
	}
	return job
}

var ignoresDisruptions = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
	Action:          batchv1.PodFailurePolicyActionIgnore,
	OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
}}}

// awaitAdmission waits until the API server asks about Jobs of the namespace.
func awaitAdmission(t *testing.T, ns string) {
	t.Helper()
	awaitServiceAccount(t, ns)
	lab.Eventually(t, 30*time.Second, "Jobs are admitted", func() error {
		made, err := shared.Client.BatchV1().Jobs(ns).Create(t.Context(), labelledJob(nil), dryRun)
		if err == nil && made.Spec.PodFailurePolicy == nil {
			err = errors.New("a labelled Job has no podFailurePolicy")
		}
		return err
	})
}

// The API server itself tells the Jobs that are our business from others, and takes what we make of them.
func TestJobsAreAskedAboutOnlyWhenTheirPodsAreLabelled(t *testing.T) {
	ns := namespace(t)
	asked := admitJobs(t, ns)
	awaitAdmission(t, ns)
	own := &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: batchv1.PodFailurePolicyActionFailJob,
		OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}}}}
	const asBefore = batchv1.TerminatingOrFailed
	for name, test := range map[string]struct {
		change      func(*batchv1.Job)
		asked       bool
		policy      *batchv1.PodFailurePolicy
		replacement batchv1.PodReplacementPolicy
	}{
		"labelled": {nil, true, ignoresDisruptions, batchv1.Failed},
		"labelled, with what the API would not take with a policy": {func(j *batchv1.Job) { j.Spec.PodReplacementPolicy = new(batchv1.TerminatingOrFailed) },
			true, ignoresDisruptions, batchv1.Failed},
		"labelled, a limit for each index": {func(j *batchv1.Job) {
			j.Spec.CompletionMode, j.Spec.Completions, j.Spec.BackoffLimitPerIndex = new(batchv1.IndexedCompletion), new(int32(3)), new(int32(1))
		}, true, ignoresDisruptions, batchv1.Failed},
		"labelled, but not to be captured": {func(j *batchv1.Job) { j.Spec.Template.Spec.HostNetwork = true }, true, nil, asBefore},
		"no labels":                        {func(j *batchv1.Job) { j.Spec.Template.Labels = nil }, false, nil, asBefore},
		"another label":                    {func(j *batchv1.Job) { j.Spec.Template.Labels = map[string]string{"app": "web"} }, false, nil, asBefore},
		"the label is on the Job": {func(j *batchv1.Job) { j.Labels, j.Spec.Template.Labels = j.Spec.Template.Labels, nil },
			false, nil, asBefore},
		"the label says no":               {func(j *batchv1.Job) { j.Spec.Template.Labels[keys.CheckpointMode] = keys.False }, false, nil, asBefore},
		"it restarts its containers":      {func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }, false, nil, asBefore},
		"it has a policy":                 {func(j *batchv1.Job) { j.Spec.PodFailurePolicy = own }, false, own, batchv1.Failed},
		"it opted out":                    {func(j *batchv1.Job) { j.Annotations = map[string]string{keys.JobFailurePolicy: "keep"} }, false, nil, asBefore},
		"it has another annotation":       {func(j *batchv1.Job) { j.Annotations = map[string]string{"a": "b"} }, true, ignoresDisruptions, batchv1.Failed},
		"it is made in a suspended state": {func(j *batchv1.Job) { j.Spec.Suspend = new(true) }, true, ignoresDisruptions, batchv1.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			before := asked.Load()
			made, err := shared.Client.BatchV1().Jobs(ns).Create(t.Context(), labelledJob(test.change), dryRun)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.policy, made.Spec.PodFailurePolicy); diff != "" {
				t.Errorf("policy (-want +got)\n%s", diff)
			}
			if got := made.Spec.PodReplacementPolicy; got == nil || *got != test.replacement {
				t.Errorf("replacement is %v, want %s", got, test.replacement)
			}
			if wasAsked := asked.Load() > before; wasAsked != test.asked {
				t.Errorf("the API server asked us: %t, want %t", wasAsked, test.asked)
			}
		})
	}
}

func TestTheJobsOfACronJobAreAdmitted(t *testing.T) {
	ns := namespace(t)
	admitJobs(t, ns)
	awaitAdmission(t, ns)
	cronJobs := shared.Client.BatchV1().CronJobs(ns)
	cron, err := cronJobs.Create(t.Context(), &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly"},
		Spec:       batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: labelledJob(nil).Spec}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cron.Status.LastScheduleTime = new(metav1.NewTime(time.Now().Add(-90 * time.Second))) // it has one to make up for
	if _, err := cronJobs.UpdateStatus(t.Context(), cron, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 90*time.Second, "it has made a Job", func() error {
		jobs, err := shared.Client.BatchV1().Jobs(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(jobs.Items) == 0 {
			return errors.New("there is none")
		}
		if diff := cmp.Diff(ignoresDisruptions, jobs.Items[0].Spec.PodFailurePolicy); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		return nil
	})
	if cron, err = cronJobs.Get(t.Context(), cron.Name, metav1.GetOptions{}); err != nil || cron.Spec.JobTemplate.Spec.PodFailurePolicy != nil {
		t.Errorf("the CronJob itself has %v, %v", cron.Spec.JobTemplate.Spec.PodFailurePolicy, err)
	}
}

// A value that means nothing is refused where it is written; here by the policy, as nobody answers for the webhook.
func TestABadFailurePolicyIsRefusedWhereItIsWritten(t *testing.T) {
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	const refused = `annotation memverge.ai/job-failure-policy is "yes"; it may be "keep"`
	tries := map[string]func(value string) error{
		"Job": func(value string) error {
			_, err := shared.Client.BatchV1().Jobs(ns).Create(t.Context(), labelledJob(func(j *batchv1.Job) {
				j.Annotations = map[string]string{keys.JobFailurePolicy: value}
			}), dryRun)
			return err
		},
		"CronJob": func(value string) error {
			_, err := shared.Client.BatchV1().CronJobs(ns).Create(t.Context(), &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "nightly"},
				Spec: batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{keys.JobFailurePolicy: value}}, Spec: labelledJob(nil).Spec}}}, dryRun)
			return err
		},
	}
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if tries["Job"]("yes") == nil {
			return errors.New("a bad annotation was taken")
		}
		return nil
	})
	for kind, try := range tries {
		t.Run(kind, func(t *testing.T) {
			checkAnswer(t, try("yes"), refused)
			checkAnswer(t, try("keep"), "")
		})
	}
}

// playedJob makes a Job whose pod is on a node that there is not, and plays the kubelet of its first pod, which runs.
func playedJob(t *testing.T, ns string, policy *batchv1.PodFailurePolicy) *corev1.Pod {
	t.Helper()
	job := labelledJob(func(j *batchv1.Job) {
		j.Spec.PodFailurePolicy, j.Spec.BackoffLimit = policy, new(int32(1))
		of := &j.Spec.Template
		of.Annotations = map[string]string{keys.Effective: `{"schemaVersion":1,"containers":["app"],"gracePeriodSeconds":120}`}
		of.Spec.RuntimeClassName, of.Spec.NodeName, of.Spec.TerminationGracePeriodSeconds = new(keys.RuntimeClass), newNode(t), new(int64(120))
	})
	if _, err := shared.Client.BatchV1().Jobs(ns).Create(t.Context(), job, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := shared.Client.CoreV1().Pods(ns)
	var pod *corev1.Pod
	lab.Eventually(t, patience, "the Job has a pod", func() error {
		all, err := pods.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(all.Items) == 0 {
			return errors.New("there is none")
		}
		pod = &all.Items[0]
		return nil
	})
	lab.Eventually(t, patience, "kubelet says that it runs", func() (err error) {
		if pod, err = pods.Get(t.Context(), pod.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		pod.Status.Phase = corev1.PodRunning
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ContainerID: "containerd://1",
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}}}
		pod, err = pods.UpdateStatus(t.Context(), pod, metav1.UpdateOptions{})
		return err
	})
	return pod
}

// ends has the kubelet that is played say that a pod's containers were killed.
func ends(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	pods := shared.Client.CoreV1().Pods(pod.Namespace)
	lab.Eventually(t, patience, "kubelet says that it has ended", func() error {
		now, err := pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Status.Phase = corev1.PodFailed
		now.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, FinishedAt: metav1.Now()}}
		_, err = pods.UpdateStatus(t.Context(), now, metav1.UpdateOptions{})
		return err
	})
}

// The real Job controller judges what the manager says of a pod that is deleted.
func TestACapturedPodDoesNotCountAsAFailure(t *testing.T) {
	ns := namespace(t)
	startManager(t, ns, nil)
	pod := playedJob(t, ns, ignoresDisruptions)
	pods := shared.Client.CoreV1().Pods(ns)
	if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "the pod is marked", func() error {
		now, err := pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range now.Status.Conditions {
			if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == keys.DisruptionWithCheckpoint {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v", now.Status.Conditions)
	})
	ends(t, pod)
	awaitReplaced(t, ns, pod, 0)
	if text := eventsOn(t, ns, "work"); strings.Contains(text, "Resumes") {
		t.Errorf("the Job is told of what does not count:\n%s", text)
	}
}

func TestAJobThatCountsIsToldWhatItBears(t *testing.T) {
	ns := namespace(t)
	startManager(t, ns, nil)
	pod := playedJob(t, ns, nil)
	if err := shared.Client.CoreV1().Pods(ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	const want = "Pod %s is captured and will be resumed. Its end counts as failure 1 of the Job, and backoffLimit is 1: the next one fails it. Raise"
	lab.Eventually(t, patience, "the Job is told", func() error {
		if text := eventsOn(t, ns, "work"); !strings.Contains(text, "Warning NoResumesLeft "+fmt.Sprintf(want, pod.Name)) {
			return errors.New(text)
		}
		return nil
	})
	ends(t, pod)
	awaitReplaced(t, ns, pod, 1)
}

// awaitReplaced waits for the next pod of the Job, and compares how many failures it has counted by then.
func awaitReplaced(t *testing.T, ns string, former *corev1.Pod, failed int32) {
	t.Helper()
	lab.Eventually(t, time.Minute, "the Job has another pod", func() error {
		all, err := shared.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range all.Items {
			if pod.UID != former.UID {
				return nil
			}
		}
		return errors.New("there is none yet")
	})
	job, err := shared.Client.BatchV1().Jobs(ns).Get(t.Context(), "work", metav1.GetOptions{})
	if err != nil || job.Status.Failed != failed {
		t.Errorf("it counts %d failures, %v; want %d", job.Status.Failed, err, failed)
	}
}

// eventsOn returns what the events of an object say.
func eventsOn(t *testing.T, ns, name string) string {
	t.Helper()
	all, err := shared.Client.EventsV1().Events(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, e := range all.Items {
		if e.Regarding.Name == name {
			fmt.Fprintf(&text, "%s %s %s\n", e.Type, e.Reason, e.Note)
		}
	}
	return text.String()
}
