package lineage

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func pod(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID(name + "-uid"), Labels: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "job", UID: "job-uid", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "worker-1", Containers: []corev1.Container{{Name: "app", Image: "app:1", Args: []string{"serve"}}}},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func owner(kind, uid string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.OwnerReferences[0].Kind, p.OwnerReferences[0].UID = kind, types.UID(uid) }
}

func label(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels[key] = value }
}

func plain(p *corev1.Pod) { p.OwnerReferences = nil }

func args(words ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Args = words }
}

func tokenMount(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.NodeName = "worker-2"
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts,
			corev1.VolumeMount{Name: name, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"})
	}
}

func TestSuccessorsAreOfOneLineage(t *testing.T) {
	for what, test := range map[string]struct {
		one, other *corev1.Pod
		same       bool
	}{
		"two pods of a Job":                    {pod("a", tokenMount("x")), pod("b", tokenMount("y")), true},
		"two pods of two Jobs":                 {pod("a"), pod("a", owner("Job", "other")), false},
		"a Job's pod that runs something else": {pod("a"), pod("b", args("other")), false},
		"two revisions of a StatefulSet": {
			pod("a-0", owner("StatefulSet", "s"), label("controller-revision-hash", "1")),
			pod("a-0", owner("StatefulSet", "s"), label("controller-revision-hash", "2")), false,
		},
		"one revision, whatever admission changed": {pod("a", label("pod-template-hash", "1")), pod("b", label("pod-template-hash", "1"), args("x")), true},
		"a plain pod made again":                   {pod("a", plain), pod("a", plain, tokenMount("x")), true},
		"two plain pods":                           {pod("a", plain), pod("b", plain), false},
	} {
		if one, other := Of(test.one).Lineage, Of(test.other).Lineage; (one == other) != test.same {
			t.Errorf("%s: %s and %s", what, one, other)
		}
	}
}

func TestIdentityIsWhatOnlyOnePodCanHave(t *testing.T) {
	for what, test := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"a StatefulSet's pod": {pod("web-3", owner("StatefulSet", "s")), "web-3"},
		"an indexed Job's": {pod("job-2-x", func(p *corev1.Pod) {
			p.Annotations = map[string]string{"batch.kubernetes.io/job-completion-index": "2"}
		}), "2"},
		"another Job's":  {pod("job-x"), ""},
		"a ReplicaSet's": {pod("web-x", owner("ReplicaSet", "r")), ""},
	} {
		if got := Of(test.pod).Identity; got != test.want {
			t.Errorf("%s: %q, want %q", what, got, test.want)
		}
	}
}

func TestACheckpointGoesWithItsOwner(t *testing.T) {
	checkpoint, source := TerminationCheckpoint(pod("job-x"))
	if len(checkpoint.OwnerReferences) != 1 || checkpoint.OwnerReferences[0].UID != "job-uid" || checkpoint.OwnerReferences[0].Controller != nil {
		t.Errorf("its owners are %+v", checkpoint.OwnerReferences)
	}
	if source.Node != "worker-1" || source.Lineage != checkpoint.Labels["checkpoint.memverge.ai/lineage"] {
		t.Errorf("its source is %+v, its labels are %v", source, checkpoint.Labels)
	}
}
