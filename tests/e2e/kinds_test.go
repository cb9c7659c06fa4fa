package e2e

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// TestEveryKindOfWorkload deletes what each kind makes, in the ways in which it is deleted, and looks who goes on from what. That one pod of a Job,
// a Deployment and a StatefulSet goes on, and a plain one, on either node, TestWorkSurvivesTheDeletionOfItsPod has.
func TestEveryKindOfWorkload(t *testing.T) {
	c := labelled(t)
	for _, kind := range []struct {
		name string
		test func(*testing.T, *lab.Cluster)
	}{
		{"an indexed Job's pods take the place of their index", indexedJob},
		{"a StatefulSet's pods have their names, and start cold when it was changed", statefulSetOfTwo},
		{"a Deployment is scaled to zero and back, then restarted", deploymentThatIsScaled},
		{"a CronJob's next run starts cold", cronJob},
		{"a DaemonSet's pods have their nodes", daemonSet},
		{"a ReplicaSet's pod is evicted", evictedReplicaSet},
		{"a Deployment's pod is deleted by force", deletedByForce},
		{"a controller that nobody knows makes its pods itself", unknownController},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			kind.test(t, c)
		})
	}
}

// whose is a file in which a test writes whose state it is.
const whose = "/whose"

// mark has each pod write whose state it has, as place says, and returns their answers by that.
func (w *workload) mark(t *testing.T, pods []corev1.Pod, place func(*corev1.Pod) string) map[string]answer {
	t.Helper()
	before := map[string]answer{}
	for i := range pods {
		pod := &pods[i]
		waitForCount(t, w.c, pod, 5)
		put(t, w.c, pod, whose, place(pod))
		before[place(pod)] = w.countOf(t, pod)
	}
	return before
}

// deleteAll deletes all pods at once, and returns those that come after them.
func (w *workload) deleteAll(t *testing.T, pods []corev1.Pod) []corev1.Pod {
	t.Helper()
	former := map[string]corev1.Pod{}
	for _, pod := range pods {
		former[pod.Name] = pod
	}
	if err := w.c.Client.CoreV1().Pods(w.ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	return w.allRun(t, len(pods), former)
}

// haveTheirOwn checks that each pod goes on from the state of its own place.
func (w *workload) haveTheirOwn(t *testing.T, pods []corev1.Pod, before map[string]answer, place func(*corev1.Pod) string) {
	t.Helper()
	for i := range pods {
		pod := &pods[i]
		w.goesOn(t, pod, before[place(pod)], map[string]string{whose: place(pod)})
	}
}

// cold checks that a pod says why it started cold.
func (w *workload) cold(t *testing.T, pod *corev1.Pod, reason string) {
	t.Helper()
	if said := w.restored(t, pod); said.Status != corev1.ConditionFalse || said.Reason != reason {
		t.Errorf("pod %s says %+v, want %s\n%s", pod.Name, said, reason, w.events(t, pod))
	}
}

func nameOf(pod *corev1.Pod) string { return pod.Name }

func nodeOf(pod *corev1.Pod) string { return pod.Spec.NodeName }

func indexOf(pod *corev1.Pod) string { return pod.Annotations[batchv1.JobCompletionIndexAnnotation] }

func ofWork() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": workloadName}}
}

func indexedJob(t *testing.T, c *lab.Cluster) {
	w := prepareWorkload(t, c, job, nil)
	mode := batchv1.IndexedCompletion
	wanted := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: workloadName}, Spec: batchv1.JobSpec{
		Completions: new(int32(2)), Parallelism: new(int32(2)), CompletionMode: &mode, Template: w.template,
	}}
	if _, err := c.Client.BatchV1().Jobs(w.ns).Create(t.Context(), wanted, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := w.allRun(t, 2, nil)
	before := w.mark(t, pods, indexOf)
	w.haveTheirOwn(t, w.deleteAll(t, pods), before, indexOf)
}

func statefulSetOfTwo(t *testing.T, c *lab.Cluster) {
	w := prepareWorkload(t, c, statefulSet, nil)
	sets := c.Client.AppsV1().StatefulSets(w.ns)
	_, err := sets.Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: workloadName}, Spec: appsv1.StatefulSetSpec{
		Replicas: new(int32(2)), PodManagementPolicy: appsv1.ParallelPodManagement, Selector: ofWork(), Template: w.template,
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods := w.allRun(t, 2, nil)
	before := w.mark(t, pods, nameOf)
	pods = w.deleteAll(t, pods)
	w.haveTheirOwn(t, pods, before, nameOf)

	former := map[string]corev1.Pod{}
	for _, pod := range pods {
		former[pod.Name] = pod
	}
	env := []map[string]string{{"name": "CHANGED", "value": "yes"}}
	patch := patchJSON(t, map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []map[string]any{{"name": "app", "env": env}},
	}}}})
	if _, err := sets.Patch(t.Context(), workloadName, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	pods = w.allRun(t, 2, former)
	for i := range pods {
		w.cold(t, &pods[i], keys.ColdTemplateChanged)
	}
}

func deploymentThatIsScaled(t *testing.T, c *lab.Cluster) {
	w, pod := newWorkload(t, c, deployment, nil)
	before := waitForCount(t, c, pod, 10)
	scale(t, w, 0)
	w.awaitGone(t, pod)
	scale(t, w, 1)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)

	c.Run(t, "kubectl", "--", "--namespace="+w.ns, "rollout", "restart", "deployment/"+workloadName)
	var restarted *corev1.Pod
	lab.Eventually(t, time.Minute, "a pod of the new revision runs", func() error {
		pods, err := c.Client.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i, p := range pods.Items {
			if p.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != next.Labels[appsv1.DefaultDeploymentUniqueLabelKey] && p.Status.Phase == corev1.PodRunning {
				restarted = &pods.Items[i]
				return nil
			}
		}
		return fmt.Errorf("there are %d pods", len(pods.Items))
	})
	w.cold(t, restarted, keys.ColdTemplateChanged)
}

// cronJob makes two runs of one CronJob, as it would at its times. The first is suspended, so that it leaves a state behind while the second starts.
func cronJob(t *testing.T, c *lab.Cluster) {
	w := prepareWorkload(t, c, job, nil)
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "nightly"}, Spec: batchv1.CronJobSpec{
		Schedule: "0 0 1 1 *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: w.template}},
	}}
	if _, err := c.Client.BatchV1().CronJobs(w.ns).Create(t.Context(), cron, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	run := func(name string) {
		c.Run(t, "kubectl", "--", "--namespace="+w.ns, "create", "job", name, "--from=cronjob/nightly")
	}
	suspend := func(name string, off bool) {
		patch := fmt.Appendf(nil, `{"spec":{"suspend":%t}}`, off)
		if _, err := c.Client.BatchV1().Jobs(w.ns).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	run("first")
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 10)
	suspend("first", true)
	w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	w.awaitGone(t, pod)
	run("second")
	second := w.running(t, pod)
	w.cold(t, second, keys.ColdNoCheckpoint)
	suspend("second", true)
	w.awaitGone(t, second)
	suspend("first", false)
	w.goesOn(t, w.running(t, second), before, nil)
}

func daemonSet(t *testing.T, c *lab.Cluster) {
	w := prepareWorkload(t, c, "DaemonSet", nil)
	_, err := c.Client.AppsV1().DaemonSets(w.ns).Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: workloadName}, Spec: appsv1.DaemonSetSpec{Selector: ofWork(), Template: w.template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pods := w.allRun(t, 2, nil)
	before := w.mark(t, pods, nodeOf)
	w.haveTheirOwn(t, w.deleteAll(t, pods), before, nodeOf)
}

func evictedReplicaSet(t *testing.T, c *lab.Cluster) {
	w := prepareWorkload(t, c, "ReplicaSet", nil)
	_, err := c.Client.AppsV1().ReplicaSets(w.ns).Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: workloadName}, Spec: appsv1.ReplicaSetSpec{Selector: ofWork(), Template: w.template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 10)
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: pod.Name}}
	if err := c.Client.PolicyV1().Evictions(w.ns).Evict(t.Context(), eviction); err != nil {
		t.Fatal(err)
	}
	w.goesOn(t, w.running(t, pod), before, nil)
}

func deletedByForce(t *testing.T, c *lab.Cluster) {
	w, pod := newWorkload(t, c, deployment, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Args = []string{"serve", "-mib=64"} // so that the capture takes a while
	})
	before := waitForCount(t, c, pod, 10)
	if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	w.goesOn(t, w.running(t, pod), before, nil)
}

// rings is a kind that only its test knows.
var rings = schema.GroupVersionResource{Group: "e2e.example.com", Version: "v1", Resource: "rings"}

const ringsDefinition = `{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "rings.e2e.example.com"},
	"spec": {"group": "e2e.example.com", "scope": "Namespaced", "names": {"plural": "rings", "kind": "Ring"},
	"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}`

// newRing makes a Ring, and its kind, which stays.
func newRing(t *testing.T, c *lab.Cluster, ns string) *unstructured.Unstructured {
	t.Helper()
	client, err := dynamic.NewForConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	definition := &unstructured.Unstructured{}
	if err := definition.UnmarshalJSON([]byte(ringsDefinition)); err != nil {
		t.Fatal(err)
	}
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	if _, err := client.Resource(definitions).Create(t.Context(), definition, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	ring := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "e2e.example.com/v1", "kind": "Ring", "metadata": map[string]any{"name": "ring"},
	}}
	var made *unstructured.Unstructured
	lab.Eventually(t, time.Minute, "a Ring can be made", func() (err error) {
		made, err = client.Resource(rings).Namespace(ns).Create(t.Context(), ring, metav1.CreateOptions{})
		return err
	})
	return made
}

// unknownController plays the controller of a kind of its own: it gives two pods names, and has the API server make one up for the third.
func unknownController(t *testing.T, c *lab.Cluster) {
	w := prepareWorkload(t, c, "Ring", nil)
	ring := newRing(t, c, w.ns)
	create := func(meta metav1.ObjectMeta) {
		meta.Labels = w.template.Labels
		meta.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: ring.GetAPIVersion(), Kind: ring.GetKind(), Name: ring.GetName(), UID: ring.GetUID(), Controller: new(true),
		}}
		if _, err := c.Client.CoreV1().Pods(w.ns).Create(t.Context(), &corev1.Pod{ObjectMeta: meta, Spec: w.template.Spec}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	place := func(pod *corev1.Pod) string {
		if pod.GenerateName != "" {
			return "any"
		}
		return pod.Name
	}
	create(metav1.ObjectMeta{Name: "member-0"})
	create(metav1.ObjectMeta{Name: "member-1"})
	create(metav1.ObjectMeta{GenerateName: "helper-"})
	pods := w.allRun(t, 3, nil)
	before := w.mark(t, pods, place)
	if err := c.Client.CoreV1().Pods(w.ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range pods {
		w.awaitGone(t, &pods[i])
	}
	create(metav1.ObjectMeta{GenerateName: "helper-"})
	create(metav1.ObjectMeta{Name: "member-1"})
	create(metav1.ObjectMeta{Name: "member-0"})
	former := map[string]corev1.Pod{}
	for _, pod := range pods {
		former[pod.Name] = pod
	}
	w.haveTheirOwn(t, w.allRun(t, 3, former), before, place)
}
