package checkpoint

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func TestJudgeOfAPodThatGoesOn(t *testing.T) {
	pod := func(changes ...func(*corev1.Pod)) *corev1.Pod {
		class := keys.RuntimeClass
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "0f2d4c1a-93c1", Annotations: map[string]string{keys.Effective: "{}"}},
			Spec:       corev1.PodSpec{NodeName: "n", RuntimeClassName: &class},
			Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
		}
		for _, change := range changes {
			change(p)
		}
		return p
	}
	starting := func(p *corev1.Pod) { p.Status.ContainerStatuses = nil }
	for name, test := range map[string]struct {
		name       string // of the Checkpoint
		conditions []metav1.Condition
		pod        *corev1.Pod
		known      bool // the source
		replaced   bool
		age        time.Duration
		down       bool
		want       verdict
	}{
		"there is no pod":  {want: verdict{state: "Failed", message: "SourceNotFound: there is no pod p in namespace ns"}},
		"there is another": {replaced: true, want: verdict{state: "Failed", message: "SourceReplaced: pod p has the UID other; spec.sourcePodUID is wanted"}},
		"it runs":          {pod: pod(), want: verdict{state: "Pending", message: "node n is asked to capture pod p"}},
		"its node is away": {pod: pod(), down: true, want: verdict{state: "Pending", message: "node n is asked to capture pod p", stalled: "NodeUnavailable"}},
		"it does not yet":  {pod: pod(starting), want: verdict{state: "Pending", message: "pod p does not run yet", again: 10 * time.Minute}},
		"it never did":     {pod: pod(starting), age: time.Hour, want: verdict{state: "Failed", message: "SourceNotRunning: pod p did not run for 10m0s"}},
		"it is gone since": {known: true, want: verdict{state: "Pending", message: "pod p is gone; node n has not said what it captured", again: 10 * time.Minute}},
		"it is gone for good": {known: true, age: time.Hour,
			want: verdict{state: "Failed", message: "SourceNotFound: pod p is gone, and node n has not said that it captured anything"}},
		"it has a name that is needed": {name: "p-0f2d4c1a", pod: pod(),
			want: verdict{state: "Failed", message: "Failed: its name is the one that the last Checkpoint of pod p will have; delete it, and choose another"}},
		"what has failed stays so": {conditions: conditions("Ready", "False", "Failed"), pod: pod(), want: verdict{state: "Failed", message: "as reported"}},
		"it is captured all the same": {conditions: conditions("Ready", "False", "Failed", "Captured", "True", "Completed"), pod: pod(),
			want: verdict{state: "Uploading", message: "safe on node n, on its way to the bucket"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts{checkpoint: &v1alpha1.Checkpoint{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: test.name, CreationTimestamp: metav1.NewTime(made)},
				Spec:       v1alpha1.CheckpointSpec{SourcePodName: "p", SourcePodUID: "wanted", Trigger: v1alpha1.TriggerManual},
				Status:     v1alpha1.CheckpointStatus{Conditions: test.conditions},
			}, pod: test.pod, nodeUp: !test.down, now: made.Add(test.age)}
			if test.known {
				f.checkpoint.Status.Source = &v1alpha1.CheckpointSource{Node: "n"}
			}
			if test.replaced {
				f.replacedBy = "other"
			}
			got := judge(f)
			if (got.help != "") != (got.stalled != "") {
				t.Errorf("stalled for %q, with the sentence %q", got.stalled, got.help)
			}
			got.help = ""
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(verdict{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Who may make Checkpoints cannot have pods evicted with which we have nothing to do.
func TestOnlyAPodThatIsProtectedIsStopped(t *testing.T) {
	c := &v1alpha1.Checkpoint{
		Spec:   v1alpha1.CheckpointSpec{PostCheckpoint: v1alpha1.PostCheckpointStop},
		Status: v1alpha1.CheckpointStatus{Conditions: conditions("Captured", "True", "Completed")},
	}
	again, err := (&Reconciler{}).stop(t.Context(), facts{checkpoint: c, pod: &corev1.Pod{}}) // which would need a client to do something
	if again != 0 || err != nil {
		t.Errorf("it is tried again after %s: %v", again, err)
	}
}
