package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/tests/builder"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// say writes labels and annotations of a namespace, as a user does. An empty value takes one away.
func say(t *testing.T, ns string, labels, annotations map[string]string) error {
	t.Helper()
	_, err := shared.Client.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType, metadataPatch(labels, annotations), metav1.PatchOptions{})
	return err
}

func metadataPatch(labels, annotations map[string]string) []byte {
	object := func(values map[string]string) string {
		var members []string
		for key, value := range values {
			text := fmt.Sprintf("%q", value)
			if value == "" {
				text = "null"
			}
			members = append(members, fmt.Sprintf("%q:%s", key, text))
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	return fmt.Appendf(nil, `{"metadata":{"labels":%s,"annotations":%s}}`, object(labels), object(annotations))
}

// tryPod makes a pod without making it, and returns what it would be.
func tryPod(t *testing.T, ns string, labels, annotations map[string]string) (*corev1.Pod, error) {
	t.Helper()
	pod := builder.MakePod(ns, "web").Obj()
	pod.Labels, pod.Annotations, pod.Spec.AutomountServiceAccountToken = labels, annotations, new(false)
	return shared.Client.CoreV1().Pods(ns).Create(t.Context(), pod, dryRun)
}

// The API server itself tells the pods that are our business from others, by what they and their namespace say.
func TestPodsAreAskedAboutWhenTheyOrTheirNamespaceAsk(t *testing.T) {
	ns := namespace(t)
	asked := admitPods(t, ns)
	awaitServiceAccount(t, ns)
	yes, no := map[string]string{keys.CheckpointMode: keys.True}, map[string]string{keys.CheckpointMode: keys.False}
	awaitProtected := func(labels map[string]string, want bool) {
		t.Helper()
		lab.Eventually(t, 30*time.Second, "the webhook is asked", func() error {
			if made, err := tryPod(t, ns, labels, nil); err != nil || podspec.IsProtected(made) != want {
				return fmt.Errorf("a pod is not as it should be: %w %+v", err, made)
			}
			return nil
		})
	}
	awaitProtected(yes, true)
	check := func(where string, labels, annotations map[string]string, want bool, questions int64) {
		t.Helper()
		before := asked.Load()
		made, err := tryPod(t, ns, labels, annotations)
		if err != nil {
			t.Fatal(err)
		}
		if want { // the RuntimeClass brings a node selector with it, and changed pods are asked about again
			questions++
		}
		if podspec.IsProtected(made) != want || asked.Load()-before != questions {
			t.Errorf("%s, labels %v, annotations %v: protected %t, asked %d times", where, labels, annotations, podspec.IsProtected(made), asked.Load()-before)
		}
		if want && len(labels) == 0 && made.Labels[keys.CheckpointMode] != keys.True {
			t.Errorf("%s: it has the labels %v", where, made.Labels)
		}
	}
	const nothing = "the namespace says nothing"
	check(nothing, nil, nil, false, 0)
	check(nothing, yes, nil, true, 1)
	check(nothing, nil, yes, true, 2) // once it is found, and once as one that has the label
	check(nothing, no, yes, true, 1)
	check(nothing, yes, no, false, 1)
	for where, at := range map[string]struct{ set, clear map[string]string }{
		"the label of the namespace":            {yes, map[string]string{keys.CheckpointMode: ""}},
		"the label that says of its annotation": {map[string]string{keys.NamespaceAsks: keys.True}, map[string]string{keys.NamespaceAsks: ""}},
	} {
		annotations := map[string]string{}
		if at.set[keys.NamespaceAsks] != "" {
			annotations[keys.CheckpointMode] = keys.True
		}
		if err := say(t, ns, at.set, annotations); err != nil {
			t.Fatal(err)
		}
		awaitProtected(nil, true)
		check(where, nil, nil, true, 2)
		check(where, yes, nil, true, 1)
		check(where, no, nil, false, 1)
		check(where, nil, no, false, 2) // it is found by both
		if err := say(t, ns, at.clear, map[string]string{keys.CheckpointMode: ""}); err != nil {
			t.Fatal(err)
		}
		awaitProtected(nil, false)
	}
}

// A Job in such a namespace does not count captured pods either, and is asked about once.
func TestJobsOfANamespaceThatAsks(t *testing.T) {
	ns := namespace(t)
	asked := admitJobs(t, ns)
	awaitAdmission(t, ns)
	if err := say(t, ns, map[string]string{keys.CheckpointMode: keys.True}, nil); err != nil {
		t.Fatal(err)
	}
	unlabelled := labelledJob(func(j *batchv1.Job) { j.Spec.Template.Labels = nil })
	lab.Eventually(t, 30*time.Second, "a Job that says nothing is admitted", func() error {
		made, err := shared.Client.BatchV1().Jobs(ns).Create(t.Context(), unlabelled, dryRun)
		if err == nil && made.Spec.PodFailurePolicy == nil {
			err = errors.New("it has no podFailurePolicy")
		}
		return err
	})
	for name, test := range map[string]struct {
		change func(*batchv1.Job)
		asked  int64
		want   bool
	}{
		"it says nothing":            {func(j *batchv1.Job) { j.Spec.Template.Labels = nil }, 1, true},
		"its label says yes":         {nil, 1, true},
		"its label says no":          {func(j *batchv1.Job) { j.Spec.Template.Labels[keys.CheckpointMode] = keys.False }, 0, false},
		"its annotation says no":     {func(j *batchv1.Job) { j.Spec.Template.Annotations = map[string]string{keys.CheckpointMode: keys.False} }, 0, false},
		"it restarts its containers": {func(j *batchv1.Job) { j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }, 0, false},
	} {
		before := asked.Load()
		made, err := shared.Client.BatchV1().Jobs(ns).Create(t.Context(), labelledJob(test.change), dryRun)
		if err != nil {
			t.Fatal(err)
		}
		if got := made.Spec.PodFailurePolicy != nil; got != test.want || asked.Load()-before != test.asked {
			t.Errorf("%s: policy %t, asked %d times", name, got, asked.Load()-before)
		}
	}
}

// What the manager does for a namespace: it says by a label what the annotation says, and tells of pods that nobody admitted.
func TestPodsThatWereMissedInANamespaceThatAsks(t *testing.T) {
	ns := namespace(t)
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	startManagerOf(t, ns, "checkpoint-system", store)
	node := newNode(t)
	plain := start(t, builder.MakePod(ns, "plain").Node(node).Obj())
	refusing := builder.MakePod(ns, "refusing").Node(node).Obj()
	refusing.Annotations[keys.CheckpointMode] = keys.False
	refusing = start(t, refusing)
	if err := say(t, ns, nil, map[string]string{keys.CheckpointMode: keys.True}); err != nil {
		t.Fatal(err)
	}
	awaitNamespace := func(want string) {
		t.Helper()
		lab.Eventually(t, patience, "the namespace has its label", func() error {
			now, err := shared.Client.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
			if err == nil && now.Labels[keys.NamespaceAsks] != want {
				err = fmt.Errorf("it is %q", now.Labels[keys.NamespaceAsks])
			}
			return err
		})
	}
	reason := func(pod *corev1.Pod) string {
		t.Helper()
		now, err := shared.Client.CoreV1().Pods(ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if c := podspec.Condition(now, keys.Checkpointable); c != nil {
			return c.Reason
		}
		return ""
	}
	awaitReason := func(want string) {
		t.Helper()
		lab.Eventually(t, patience, "the pod says whether it is protected", func() error {
			if got := reason(plain); got != want {
				return fmt.Errorf("it says %q", got)
			}
			return nil
		})
	}
	awaitNamespace(keys.True)
	awaitReason(keys.UnprotectedNotAdmitted)
	if got := reason(refusing); got != "" {
		t.Errorf("one that wants no protection says %q", got)
	}
	if err := say(t, ns, nil, map[string]string{keys.CheckpointMode: ""}); err != nil {
		t.Fatal(err)
	}
	awaitNamespace("")
	awaitReason("")
}

// Of Namespaces the manager may change its label alone, whatever its role allows.
func TestTheManagerChangesNothingElseOfANamespace(t *testing.T) {
	ns := namespace(t)
	manager := clientOf(t, theManager, "")
	try := func(labels, annotations map[string]string) error {
		_, err := manager.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType, metadataPatch(labels, annotations), metav1.PatchOptions{})
		return err
	}
	const level, refused = "pod-security.kubernetes.io/enforce", "may change nothing of a Namespace but its label checkpoint.memverge.ai/asks"
	if err := say(t, ns, map[string]string{level: "restricted"}, nil); err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, try(map[string]string{keys.NamespaceAsks: keys.True}, nil), "")
	for name, err := range map[string]error{
		"another label": try(map[string]string{level: "privileged"}, nil), "one that is taken away": try(map[string]string{level: ""}, nil),
		"an annotation": try(nil, map[string]string{"a": "b"}),
	} {
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	checkAnswer(t, try(map[string]string{keys.NamespaceAsks: ""}, nil), "")
}

// What means nothing is refused on a Namespace as on a pod, and so are defaults where none counts.
func TestBadKeysAreRefusedOnNamespaces(t *testing.T) {
	ns := namespace(t)
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if say(t, ns, map[string]string{keys.CheckpointMode: "yes"}, nil) == nil {
			return errors.New("a bad label was taken")
		}
		return nil
	})
	checkAnswer(t, say(t, ns, nil, map[string]string{keys.CheckpointMode: "on"}), `annotation memverge.ai/checkpoint-mode is "on"; it may be "true" or "false"`)
	checkAnswer(t, say(t, ns, map[string]string{keys.CheckpointVolumeSize: "x"}, nil), `label memverge.ai/checkpoint-volume-size is "x"; it may be a quantity`)
	checkAnswer(t, say(t, ns, map[string]string{keys.CheckpointMode: "true"}, map[string]string{keys.CheckpointContainers: "a,b"}), "")
	checkAnswer(t, say(t, metav1.NamespaceSystem, map[string]string{keys.CheckpointMode: "true"}, nil), "no default counts for the pods of this Namespace")
}

// Keys of pods and templates, where the API server can tell without us.
func TestBadKeysAreRefusedOnPods(t *testing.T) {
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	const may = "it may name ext-unix-sk, file-locks, ghost-limit=SIZE, link-remap, skip-in-flight, tcp-close and tcp-established"
	for name, test := range map[string]struct {
		labels, annotations map[string]string
		refused             string
	}{
		"a mode": {nil, map[string]string{keys.RestoreMode: "never"}, `annotation memverge.ai/restore-mode is "never"; it may be "true" or "false"`},
		"diagnosis": {map[string]string{keys.CheckpointDiagnosis: "1"}, nil,
			`label memverge.ai/checkpoint-diagnosis is "1"; it may be "true" or "false"`},
		"a size": {nil, map[string]string{keys.CheckpointVolumeSize: "0"}, `annotation memverge.ai/checkpoint-volume-size is "0"; it may be a quantity`},
		"an option": {nil, map[string]string{keys.CheckpointOptions: "link-remap, action-script=/x"},
			`annotation memverge.ai/checkpoint-advanced-options names "action-script=/x"; ` + may},
		"an option in a label": {map[string]string{keys.CheckpointOptions: "link-remap.ghost-limit"}, nil,
			`label memverge.ai/checkpoint-advanced-options names "ghost-limit"; ` + may},
		"options":            {nil, map[string]string{keys.CheckpointOptions: "--ghost-limit 4M,tcp-established", keys.RestoreOptions: "tcp-close"}, ""},
		"options in a label": {map[string]string{keys.CheckpointOptions: "link-remap_file-locks"}, nil, ""},
		"a container": {nil, map[string]string{keys.CheckpointContainers: "app,web"}, `annotation memverge.ai/checkpoint-containers is "app,web"; ` +
			`the pod has no container "web" that runs as long as it does; it may name "app"`},
		"no container": {nil, map[string]string{keys.CheckpointContainers: ","}, `is ","; it may be names of containers`},
		"its own":      {map[string]string{keys.CheckpointContainers: "app"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryPod(t, ns, test.labels, test.annotations)
			checkAnswer(t, err, test.refused)
		})
	}
}
