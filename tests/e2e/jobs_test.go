package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// newJob makes a Job of labelled pods with a backoffLimit.
func newJob(t *testing.T, c *lab.Cluster, backoffLimit int32, change func(*batchv1.Job)) *workload {
	t.Helper()
	w := prepareWorkload(t, c, job, nil)
	wanted := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: workloadName}, Spec: batchv1.JobSpec{Template: w.template, BackoffLimit: &backoffLimit}}
	if change != nil {
		change(wanted)
	}
	if _, err := c.Client.BatchV1().Jobs(w.ns).Create(t.Context(), wanted, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *workload) jobStatus(t *testing.T) batchv1.JobStatus {
	t.Helper()
	now, err := w.c.Client.BatchV1().Jobs(w.ns).Get(t.Context(), workloadName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return now.Status
}

// awaitJob waits until the Job has a condition, such as Complete.
func (w *workload) awaitJob(t *testing.T, kind batchv1.JobConditionType) batchv1.JobStatus {
	t.Helper()
	lab.Eventually(t, 2*time.Minute, "the Job is "+string(kind), func() error {
		if status := w.jobStatus(t); !slices.ContainsFunc(status.Conditions, func(c batchv1.JobCondition) bool {
			return c.Type == kind && c.Status == corev1.ConditionTrue
		}) {
			return fmt.Errorf("it is %+v", status)
		}
		return nil
	})
	return w.jobStatus(t)
}

// ends watches the pods of a namespace: what the condition DisruptionTarget of each said when its phase was Failed for the first time.
type ends struct {
	mu   sync.Mutex
	said map[string]string
}

func watchEnds(t *testing.T, c *lab.Cluster, ns string) *ends {
	t.Helper()
	e := &ends{said: map[string]string{}}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	patient := rest.CopyConfig(c.Config)
	patient.Timeout = 0 // or the watch would be cut off
	client, err := kubernetes.NewForConfig(patient)
	if err != nil {
		t.Fatal(err)
	}
	watching, err := client.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{TimeoutSeconds: new(int64(600))})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for event := range watching.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok {
				e.see(pod)
			}
		}
	}()
	return e
}

func (e *ends) see(pod *corev1.Pod) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, seen := e.said[pod.Name]; seen || pod.Status.Phase != corev1.PodFailed {
		return
	}
	e.said[pod.Name] = "nothing"
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget {
			e.said[pod.Name] = fmt.Sprintf("%s %s", c.Status, c.Reason)
		}
	}
}

// of waits until the pod has failed.
func (e *ends) of(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	said := ""
	lab.Eventually(t, 2*time.Minute, "pod "+pod.Name+" was seen to fail", func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if said = e.said[pod.Name]; said == "" {
			return errors.New("it was not")
		}
		return nil
	})
	return said
}

const markedAsCaptured = "True " + keys.DisruptionWithCheckpoint

// A Job bears more captures than it bears failures, and what it counts is its own program's work. The waits before its pods are the Job
// controller's: about 10, 20 and 40 s.
func TestAJobIsNotFailedByItsCaptures(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := newJob(t, c, 1, nil)
	ends := watchEnds(t, c, w.ns)
	pod := w.running(t, nil)
	state := waitForCount(t, c, pod, 5)
	for deletion := range 3 {
		began := time.Now()
		w.deletePod(t, pod)
		if said := ends.of(t, pod); said != markedAsCaptured {
			t.Errorf("when pod %s had failed its condition DisruptionTarget was: %s", pod.Name, said)
		}
		next := w.running(t, pod)
		t.Logf("deletion %d: the next pod runs after %s", deletion+1, time.Since(began).Round(100*time.Millisecond))
		state = w.goesOn(t, next, state, nil)
		state = waitForCount(t, c, next, state.Count+2)
		if failed := w.jobStatus(t).Failed; failed != 0 {
			t.Fatalf("after deletion %d the Job counts %d failures", deletion+1, failed)
		}
		pod = next
	}
	_, _ = ask(t.Context(), c, pod, "exit", map[string][]string{"code": {"0"}}) // nobody answers
	if status := w.awaitJob(t, batchv1.JobComplete); status.Succeeded != 1 || status.Failed != 0 {
		t.Errorf("it ended as %+v", status)
	}
	if text := w.eventsOf(t, "Job", workloadName); strings.Contains(text, "ResumesLeft") || strings.Contains(text, "BackoffLimitExceeded") {
		t.Errorf("its events are\n%s", text)
	}
}

// All pods of a Job that bears no failure at all are deleted in one request. Each index waits for itself, or six at once would wait like six in a row.
func TestManyPodsOfAJobAreDeletedAtOnce(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	const many = int32(6)
	w := newJob(t, c, 0, func(j *batchv1.Job) {
		j.Spec.CompletionMode, j.Spec.Completions, j.Spec.Parallelism = new(batchv1.IndexedCompletion), new(many), new(many)
		j.Spec.BackoffLimitPerIndex = new(int32(0))
	})
	ends := watchEnds(t, c, w.ns)
	former := map[string]corev1.Pod{}
	pods := w.allRun(t, int(many), former)
	before := map[string]answer{}
	for _, pod := range pods {
		former[pod.Name] = pod
		before[pod.Labels[batchv1.JobCompletionIndexAnnotation]] = waitForCount(t, c, &pod, 3)
	}
	if err := c.Client.CoreV1().Pods(w.ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		if said := ends.of(t, &pod); said != markedAsCaptured {
			t.Errorf("when pod %s had failed its condition DisruptionTarget was: %s", pod.Name, said)
		}
	}
	for _, pod := range w.allRun(t, int(many), former) {
		w.goesOn(t, &pod, before[pod.Labels[batchv1.JobCompletionIndexAnnotation]], nil)
	}
	if status := w.jobStatus(t); status.Failed != 0 {
		t.Errorf("the Job is %+v", status)
	}
}

// What ends otherwise counts as it does without us.
func TestFailuresOfAJobCount(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		end  func(t *testing.T, w *workload, pod *corev1.Pod)
		said string
	}{
		"its capture fails": {[]string{"serve", "-undumpable"}, func(t *testing.T, w *workload, pod *corev1.Pod) {
			if err := w.c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}, "False " + keys.DisruptionCaptureFailed},
		"its program fails": {[]string{"serve"}, func(t *testing.T, w *workload, pod *corev1.Pod) {
			_, _ = ask(t.Context(), w.c, pod, "exit", map[string][]string{"code": {"7"}}) // nobody answers
		}, "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := newJob(t, c, 0, func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Args = test.args })
			ends := watchEnds(t, c, w.ns)
			pod := w.running(t, nil)
			waitForCount(t, c, pod, 3)
			test.end(t, w, pod)
			if said := ends.of(t, pod); said != test.said {
				t.Errorf("when the pod had failed its condition DisruptionTarget was: %s", said)
			}
			if status := w.awaitJob(t, batchv1.JobFailed); status.Failed != 1 {
				t.Errorf("it ended as %+v", status)
			}
		})
	}
}

// Where captures count, since the API allows no podFailurePolicy or its owner wanted none, the Job says what it still bears.
func TestAJobThatCountsItsCapturesSaysSo(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*batchv1.Job)
		advice string
	}{
		"its containers restart": {func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }, "with restartPolicy Never"},
		"it opted out": {func(j *batchv1.Job) {
			j.Annotations = map[string]string{keys.JobFailurePolicy: keys.JobFailurePolicyKeep}
		},
			"without the annotation " + keys.JobFailurePolicy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := newJob(t, c, 1, test.change)
			pod := w.running(t, nil)
			before := waitForCount(t, c, pod, 3)
			w.deletePod(t, pod)
			lab.Eventually(t, 20*time.Second, "the Job has an event", func() error {
				text := w.eventsOf(t, "Job", workloadName)
				if !strings.Contains(text, "NoResumesLeft: Pod "+pod.Name+" is captured and will be resumed. Its end counts as failure 1 of the Job") ||
					!strings.Contains(text, test.advice) {
					return errors.New(text)
				}
				return nil
			})
			pod = w.running(t, pod)
			w.goesOn(t, pod, before, nil)
			if failed := w.jobStatus(t).Failed; failed != 1 {
				t.Errorf("the Job counts %d failures", failed)
			}
			if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			w.awaitJob(t, batchv1.JobFailed)
		})
	}
}

// eventsOf returns the reasons and messages of an object's events.
func (w *workload) eventsOf(t *testing.T, kind, name string) string {
	t.Helper()
	events, err := w.c.Client.CoreV1().Events(w.ns).List(t.Context(), metav1.ListOptions{
		FieldSelector: "involvedObject.kind=" + kind + ",involvedObject.name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, event := range events.Items {
		fmt.Fprintf(&text, "%s %s: %s\n", event.Type, event.Reason, event.Message)
	}
	return text.String()
}
