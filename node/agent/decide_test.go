package agent

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
)

const deploymentRevision = "deployment.kubernetes.io/revision"

// rolledOut is a Deployment with its newest ReplicaSet, "web", of which so many pods are still of earlier revisions.
func rolledOut(old int32) []client.Object {
	meta := metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid", Annotations: map[string]string{deploymentRevision: "2"}}
	set := &appsv1.ReplicaSet{ObjectMeta: meta}
	set.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "deployment-uid", Controller: new(true)}}
	meta.UID = "deployment-uid"
	return []client.Object{set, &appsv1.Deployment{ObjectMeta: meta, Status: appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3 - old}}}
}

// left is the Checkpoint of a pod of another ReplicaSet of that Deployment.
func left(t *testing.T, b *bench, name string) {
	t.Helper()
	pod := newPod(name, func(p *corev1.Pod) { p.OwnerReferences[0].UID = "web-1-uid" })
	c, source := lineage.TerminationCheckpoint(pod)
	c.Labels = lineage.Labels(pod.Namespace, pod.Name, source, "deployment-uid")
	if err := b.Client.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c.Status.Source = &source
	if err := b.Client.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func TestAPodOfANewRevisionSaysSo(t *testing.T) {
	alone := func() []client.Object {
		return []client.Object{&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid"}}}
	}
	for what, test := range map[string]struct {
		objects []client.Object
		left    string
		want    string
	}{
		"the first pod of a Deployment":         {rolledOut(0), "", keys.ColdNoCheckpoint},
		"an earlier revision's pods still run":  {rolledOut(1), "", keys.ColdTemplateChanged},
		"an earlier revision left a Checkpoint": {rolledOut(0), "a", keys.ColdTemplateChanged},
		"a ReplicaSet without a Deployment":     {alone(), "", keys.ColdNoCheckpoint},
		"its ReplicaSet is gone":                {nil, "a", keys.ColdNoCheckpoint},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, test.objects...)
			if test.left != "" {
				left(t, b, test.left)
			}
			f, err := b.gather(t.Context(), newPod("new"))
			if err != nil {
				t.Fatal(err)
			}
			if got := matching.Choose(f); got.Cold != test.want {
				t.Errorf("it is %+v", got)
			}
		})
	}
}

func TestAPodOfAnEarlierRevisionIsNoneOfTheNew(t *testing.T) {
	objects := rolledOut(2)
	objects[0].SetAnnotations(map[string]string{deploymentRevision: "1"})
	b := newBench(t, objects...)
	f, err := b.gather(t.Context(), newPod("new"))
	if err != nil {
		t.Fatal(err)
	}
	if got := matching.Choose(f); got.Cold != keys.ColdNoCheckpoint {
		t.Errorf("it is %+v", got)
	}
}

// What is read for a choice does not grow with what other workloads of the namespace leave.
func TestWhatIsReadForAChoice(t *testing.T) {
	other := func(p *corev1.Pod) { p.OwnerReferences[0].UID, p.Labels["pod-template-hash"] = "other", "9" }
	b := newBench(t, append(rolledOut(0), newPod("a"), newPod("b", other), newPod("c", func(p *corev1.Pod) { p.Labels[keys.CheckpointMode] = keys.False }))...)
	for _, pod := range []*corev1.Pod{newPod("x"), newPod("y", other)} {
		c, source := lineage.TerminationCheckpoint(pod)
		if err := b.Client.Create(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		c.Status = v1alpha1.CheckpointStatus{Source: &source}
		if err := b.Client.Status().Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	f, err := b.gather(t.Context(), newPod("new"))
	if err != nil {
		t.Fatal(err)
	}
	var pods, checkpoints []string
	for _, p := range f.Siblings {
		pods = append(pods, p.Name)
	}
	for _, c := range f.Checkpoints {
		checkpoints = append(checkpoints, c.Spec.SourcePodName)
	}
	slices.Sort(pods)
	if diff := cmp.Diff([][]string{{"a"}, {"x"}}, [][]string{pods, checkpoints}); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
