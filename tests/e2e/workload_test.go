package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// The kinds of workloads whose pods are recreated; a plain pod is made again by whoever made it.
const (
	job         = "Job"
	deployment  = "Deployment"
	statefulSet = "StatefulSet"
	plainPod    = "Pod"
)

// workload is a labelled workload of one pod in a namespace of its own, running testapp.
type workload struct {
	c        *lab.Cluster
	ns, kind string
	template corev1.PodTemplateSpec
}

const workloadName = "work"

// newWorkload makes a workload and returns it with its first pod, running.
func newWorkload(t *testing.T, c *lab.Cluster, kind string, change func(*corev1.PodTemplateSpec)) (*workload, *corev1.Pod) {
	t.Helper()
	w := prepareWorkload(t, c, kind, change)
	w.create(t)
	return w, w.running(t, nil)
}

// prepareWorkload makes its namespace and says what it will be.
func prepareWorkload(t *testing.T, c *lab.Cluster, kind string, change func(*corev1.PodTemplateSpec)) *workload {
	t.Helper()
	spec := serving()
	spec.TerminationGracePeriodSeconds = nil
	spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
	w := &workload{c: c, ns: namespace(t, c), kind: kind, template: corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": workloadName, keys.CheckpointMode: keys.True}}, Spec: spec,
	}}
	if kind == job {
		w.template.Spec.RestartPolicy = corev1.RestartPolicyNever
	}
	if change != nil {
		change(&w.template)
	}
	return w
}

func (w *workload) create(t *testing.T) {
	t.Helper()
	var err error
	object, one := metav1.ObjectMeta{Name: workloadName}, int32(1)
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": workloadName}}
	apps := w.c.Client.AppsV1()
	switch w.kind {
	case job:
		wanted := &batchv1.Job{ObjectMeta: object, Spec: batchv1.JobSpec{Template: w.template}}
		_, err = w.c.Client.BatchV1().Jobs(w.ns).Create(t.Context(), wanted, metav1.CreateOptions{})
	case deployment:
		_, err = apps.Deployments(w.ns).Create(t.Context(), &appsv1.Deployment{ObjectMeta: object, Spec: appsv1.DeploymentSpec{
			Replicas: &one, Selector: selector, Template: w.template,
		}}, metav1.CreateOptions{})
	case statefulSet:
		_, err = apps.StatefulSets(w.ns).Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: object, Spec: appsv1.StatefulSetSpec{
			Replicas: &one, Selector: selector, Template: w.template,
		}}, metav1.CreateOptions{})
	default:
		object.Labels, object.Annotations = w.template.Labels, w.template.Annotations
		_, err = w.c.Client.CoreV1().Pods(w.ns).Create(t.Context(), &corev1.Pod{ObjectMeta: object, Spec: w.template.Spec}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// running waits for a pod of the workload, other than the former one, whose containers run.
func (w *workload) running(t *testing.T, former *corev1.Pod) *corev1.Pod {
	t.Helper()
	var found *corev1.Pod
	lab.Eventually(t, 2*time.Minute, "a pod of the "+w.kind+" runs", func() error {
		pods, err := w.c.Client.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + workloadName})
		if err != nil {
			return err
		}
		for i, pod := range pods.Items {
			if former != nil && pod.UID == former.UID || !pod.DeletionTimestamp.IsZero() || pod.Status.Phase == corev1.PodFailed {
				continue
			}
			found = &pods.Items[i]
			if pod.Status.Phase != corev1.PodRunning || pod.Status.PodIP == "" {
				return fmt.Errorf("pod %s is %s: %+v", pod.Name, pod.Status.Phase, pod.Status.ContainerStatuses)
			}
			return nil
		}
		return fmt.Errorf("it has %d pods", len(pods.Items))
	})
	return found
}

// deletePod deletes a pod and waits until it is gone. A plain one is made again.
func (w *workload) deletePod(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := w.c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, pod)
	if w.kind == plainPod {
		w.create(t)
	}
}

func (w *workload) awaitGone(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	lab.Eventually(t, time.Minute, "pod "+pod.Name+" is gone", func() error {
		now, err := w.c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err == nil && now.UID == pod.UID {
			return fmt.Errorf("it is %s", now.Status.Phase)
		}
		return nil
	})
}

// cordon keeps new pods away from a node until the test ends or lifts it.
func cordon(t *testing.T, c *lab.Cluster, node string) (lift func()) {
	t.Helper()
	set := func(ctx context.Context, off bool) {
		patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, off)
		if _, err := c.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	}
	set(t.Context(), true)
	t.Cleanup(func() { set(context.Background(), false) })
	return func() { set(t.Context(), false) }
}

// put has testapp write a file in its pod, as soon as it listens.
func put(t *testing.T, c *lab.Cluster, pod *corev1.Pod, path, content string) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "pod "+pod.Name+" writes "+path, func() error {
		body, err := c.Client.CoreV1().RESTClient().Verb(http.MethodPut).Namespace(pod.Namespace).Resource("pods").
			Name(pod.Name + ":8080").SubResource("proxy").Suffix("file" + path).Body([]byte(content)).DoRaw(t.Context())
		if err != nil {
			return fmt.Errorf("%w: %s", err, body)
		}
		return nil
	})
}

// restored waits for the pod's condition and returns it.
func (w *workload) restored(t *testing.T, pod *corev1.Pod) corev1.PodCondition {
	t.Helper()
	var found corev1.PodCondition
	lab.Eventually(t, 30*time.Second, "pod "+pod.Name+" says whether it was restored", func() error {
		now, err := w.c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(now.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == keys.Restored })
		if i < 0 {
			return fmt.Errorf("its conditions are %+v", now.Status.Conditions)
		}
		found = now.Status.Conditions[i]
		if found.Reason == keys.RestoreRefused && isRunning(now) { // what it was before it ran
			return fmt.Errorf("it still says %s", found.Message)
		}
		return nil
	})
	return found
}

// checkpoint returns the Checkpoint of a pod, once check is content with it.
func (w *workload) checkpoint(t *testing.T, pod *corev1.Pod, what string, check func(*v1alpha1.Checkpoint) error) *v1alpha1.Checkpoint {
	t.Helper()
	var found *v1alpha1.Checkpoint
	name := v1alpha1.TerminationName(pod.Name, pod.UID)
	lab.Eventually(t, 2*time.Minute, "Checkpoint "+name+" "+what, func() (err error) {
		found, err = operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return check(found)
	})
	return found
}

// is checks a condition of a Checkpoint.
func is(kind string, status metav1.ConditionStatus, reason string) func(*v1alpha1.Checkpoint) error {
	return func(c *v1alpha1.Checkpoint) error {
		for _, has := range c.Status.Conditions {
			if has.Type == kind && has.Status == status && has.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v", c.Status.Conditions)
	}
}

// events returns the reasons and messages of a pod's events.
func (w *workload) events(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	events, err := w.c.Client.CoreV1().Events(w.ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, event := range events.Items {
		fmt.Fprintf(&text, "%s %s: %s\n", event.Type, event.Reason, event.Message)
	}
	return text.String()
}

// countOf asks testapp until it answers.
func (w *workload) countOf(t *testing.T, pod *corev1.Pod) answer {
	t.Helper()
	return waitForCount(t, w.c, pod, 0)
}

// goesOn checks that a pod continues the work of the former one: same process, higher count, same files.
func (w *workload) goesOn(t *testing.T, pod *corev1.Pod, before answer, files map[string]string) answer {
	t.Helper()
	if c := w.restored(t, pod); c.Status != corev1.ConditionTrue || c.Reason != keys.RestoredFromCheckpoint {
		t.Errorf("pod %s on %s says %+v\n%s", pod.Name, pod.Spec.NodeName, c, w.events(t, pod))
	}
	now := w.countOf(t, pod)
	if now.Count < before.Count || now.PID != before.PID {
		t.Errorf("before it was %+v, now it is %+v", before, now)
	}
	for path, want := range files {
		if got, err := ask(t.Context(), w.c, pod, "file"+path, nil); err != nil || got != want {
			t.Errorf("%s holds %q, %v; want %q", path, got, err, want)
		}
	}
	return now
}

// operator is the operator on the shared cluster.
var operator *install.Operator

// labelled skips where there is no cluster and returns the shared one, with the operator on it.
func labelled(t *testing.T) *lab.Cluster {
	t.Helper()
	c := cluster(t)
	t.Cleanup(func() {
		if t.Failed() {
			diagnose(t, c)
		}
	})
	return c
}

// diagnose prints what a person would look at after a failure.
func diagnose(t *testing.T, c *lab.Cluster) {
	ctx := context.Background()
	for _, words := range [][]string{
		{"kubectl", "--", "get", "pods,checkpoints,restorepolicies", "-A", "-o", "wide"},
		{"kubectl", "--", "get", "events", "-A", "-o", "custom-columns=NAMESPACE:.metadata.namespace,REASON:.reason,MESSAGE:.message"},
		{"kubectl", "--", "logs", "-n", install.AgentNamespace, "-l", "app.kubernetes.io/name=" + install.Agent, "--tail=20", "--prefix"},
		{"node", "exec", "worker-1", "--", "sh", "-c", "tail -n 20 /run/checkpoint/log/* 2>/dev/null || true"},
		{"node", "exec", "worker-2", "--", "sh", "-c", "tail -n 20 /run/checkpoint/log/* 2>/dev/null || true"},
	} {
		text, err := lab.Localcluster(ctx, c.Name, words...)
		t.Logf("%s:\n%s%v", strings.Join(words, " "), text, err)
	}
}

// patchJSON is a merge patch of a value.
func patchJSON(t *testing.T, value any) []byte {
	t.Helper()
	var data bytes.Buffer
	if err := json.NewEncoder(&data).Encode(value); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}
