package lineage

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
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

// groups are those of the kinds of Kubernetes itself.
var groups = map[string]string{"ReplicaSet": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "Job": "batch/v1", "ReplicationController": "v1"}

func owner(kind, uid string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		ref := &p.OwnerReferences[0]
		ref.APIVersion, ref.Kind, ref.UID = groups[kind], kind, types.UID(uid)
		if ref.APIVersion == "" {
			ref.APIVersion = "example.com/v1"
		}
	}
}

func ofGroup(version string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.OwnerReferences[0].APIVersion = version }
}

// named by the API server, as most pods.
func generated(p *corev1.Pod) { p.GenerateName = "x-" }

func onNode(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }

// forNode is a pod of a DaemonSet that is not bound yet.
func forNode(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.NodeName = ""
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}},
			}}},
		}}
	}
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
		"two revisions of a DaemonSet": {
			pod("a", owner("DaemonSet", "d"), label("controller-revision-hash", "1")),
			pod("b", owner("DaemonSet", "d"), label("controller-revision-hash", "2")), false,
		},
		"one revision, whatever admission changed": {
			pod("a", owner("ReplicaSet", "r"), label("pod-template-hash", "1")), pod("b", owner("ReplicaSet", "r"), label("pod-template-hash", "1"), args("x")), true,
		},
		"two ReplicaSets, one label": {
			pod("a", owner("ReplicaSet", "r"), label("pod-template-hash", "1")), pod("b", owner("ReplicaSet", "q"), label("pod-template-hash", "1")), false,
		},
		"a ReplicaSet without a Deployment": {pod("a", owner("ReplicaSet", "r")), pod("b", owner("ReplicaSet", "r")), true},
		"a ReplicaSet without a Deployment, whose template was changed": {
			pod("a", owner("ReplicaSet", "r")), pod("b", owner("ReplicaSet", "r"), args("x")), false,
		},
		"a ReplicationController whose template was changed": {
			pod("a", owner("ReplicationController", "r")), pod("b", owner("ReplicationController", "r"), args("x")), false,
		},
		"two Jobs of a CronJob": {pod("a", owner("Job", "run-1")), pod("b", owner("Job", "run-2")), false},
		"an unknown controller": {pod("a", owner("Ring", "r"), generated), pod("b", owner("Ring", "r"), generated), true},
		"an unknown controller that runs something else": {
			pod("a", owner("Ring", "r"), generated), pod("b", owner("Ring", "r"), generated, args("x")), false,
		},
		"what a ReplicaSet's label says on a Job's pod": {pod("a", label("pod-template-hash", "1")), pod("b", label("pod-template-hash", "2")), true},
		"it does not hide what a Job's pod runs": {
			pod("a", label("pod-template-hash", "1")), pod("b", label("pod-template-hash", "1"), args("x")), false,
		},
		"it does not hide what a plain pod runs": {
			pod("a", plain, label("pod-template-hash", "1")), pod("a", plain, label("pod-template-hash", "1"), args("x")), false,
		},
		"a StatefulSet of another group brings a label of its own making": {
			pod("a-0", owner("StatefulSet", "s"), ofGroup("example.com/v1"), label("controller-revision-hash", "1")),
			pod("a-0", owner("StatefulSet", "s"), ofGroup("example.com/v1"), label("controller-revision-hash", "1"), args("x")), false,
		},
		"a plain pod made again": {pod("a", plain), pod("a", plain, tokenMount("x")), true},
		"two plain pods":         {pod("a", plain), pod("b", plain), false},
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
		"a StatefulSet's pod":               {pod("web-3", owner("StatefulSet", "s")), "web-3"},
		"a StatefulSet's, with a long name": {pod(strings.Repeat("a", 64), owner("StatefulSet", "s")), hash(strings.Repeat("a", 64))},
		"an indexed Job's": {pod("job-2-x", func(p *corev1.Pod) {
			p.Annotations = map[string]string{"batch.kubernetes.io/job-completion-index": "2"}
		}), "2"},
		"another Job's":                                 {pod("job-x"), ""},
		"a ReplicaSet's":                                {pod("web-x", owner("ReplicaSet", "r")), ""},
		"a DaemonSet's":                                 {pod("log-x", owner("DaemonSet", "d"), onNode("worker-2")), "worker-2"},
		"a DaemonSet's that is not bound yet":           {pod("log-x", owner("DaemonSet", "d"), forNode("worker-2")), "worker-2"},
		"a DaemonSet's, on a node with a long name":     {pod("log-x", owner("DaemonSet", "d"), onNode(strings.Repeat("n", 64))), hash(strings.Repeat("n", 64))},
		"a ReplicationController's":                     {pod("rc-x", owner("ReplicationController", "r"), generated), ""},
		"an unknown controller's that has a name":       {pod("broker-0", owner("Ring", "r")), "broker-0"},
		"an unknown controller's, made by generateName": {pod("broker-x", owner("Ring", "r"), generated), ""},
		"a plain pod's":                                 {pod("mine", plain), ""},
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

func TestACheckpointSaysWhereItsLineBegan(t *testing.T) {
	for what, test := range map[string]struct {
		set  func(*corev1.Pod)
		want string
	}{
		"it names nothing":         {func(*corev1.Pod) {}, ""},
		"an annotation":            {func(p *corev1.Pod) { p.Annotations = map[string]string{keys.RestoreFrom: "golden"} }, "golden"},
		"a label":                  {func(p *corev1.Pod) { p.Labels = map[string]string{keys.RestoreFrom: "golden"} }, "golden"},
		"what can be no such name": {func(p *corev1.Pod) { p.Annotations = map[string]string{keys.RestoreFrom: "Golden/1"} }, ""},
	} {
		p := pod("a")
		before := Of(p)
		test.set(p)
		checkpoint, source := TerminationCheckpoint(p)
		if source.RestoreFrom != test.want || checkpoint.Labels[keys.BeganFrom] != test.want {
			t.Errorf("%s: its source is %+v, its labels are %v", what, source, checkpoint.Labels)
		}
		if own := Of(p); own.Lineage != before.Lineage || own.Identity != before.Identity {
			t.Errorf("%s: it has another place, %+v instead of %+v", what, own, before)
		}
	}
}

func TestWorkloadIsWhatAllRevisionsHaveInCommon(t *testing.T) {
	for what, test := range map[string]struct {
		pod        *corev1.Pod
		deployment types.UID
		want       string
	}{
		"a Job's":                             {pod("a"), "", "job-uid"},
		"a StatefulSet's":                     {pod("a-0", owner("StatefulSet", "s")), "", "s"},
		"a Deployment's":                      {pod("a", owner("ReplicaSet", "r")), "d", "d"},
		"a ReplicaSet's without a Deployment": {pod("a", owner("ReplicaSet", "r")), "", "r"},
		"a plain pod's":                       {pod("a", plain), "", hash("pod", "default", "a")},
	} {
		own := Of(test.pod)
		if got := Workload(test.pod, own, test.deployment); got != test.want {
			t.Errorf("%s: %q, want %q", what, got, test.want)
		}
		source := v1alpha1.CheckpointSource{Owner: own.Owner}
		got := Labels(test.pod.Namespace, test.pod.Name, source, test.deployment)[keys.Workload]
		if aReplicaSets := KindOf(own.Owner) == ReplicaSet && test.deployment == ""; got != test.want && !aReplicaSets || aReplicaSets && got != "" {
			t.Errorf("%s: its Checkpoint has %q", what, got)
		}
	}
}
