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

var made = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func conditions(words ...string) (all []metav1.Condition) {
	for i := 0; i < len(words); i += 3 {
		all = append(all, metav1.Condition{Type: words[i], Status: metav1.ConditionStatus(words[i+1]), Reason: words[i+2], Message: "as reported"})
	}
	return all
}

func ended(code int32, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{keys.Effective: `{"schemaVersion":1,"containers":["app"]}`}},
		Status: corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "istio-proxy", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137}}},
			{Name: "app", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}},
		}},
	}
}

func TestJudge(t *testing.T) {
	going := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", DeletionTimestamp: &metav1.Time{Time: made}}}
	for name, test := range map[string]struct {
		conditions []metav1.Condition
		pod        *corev1.Pod
		ended      time.Duration // before now; 0 is not
		age        time.Duration
		down       bool // the node
		nowhere    bool // there is no location
		want       verdict
	}{
		"the pod is still there": {pod: going, want: verdict{state: "Pending", message: "pod p has not been captured yet"}},
		"the pod stays": {pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}},
			want: verdict{state: "Pending", message: "pod p is not being terminated"}},
		"nowhere to store it": {pod: going, nowhere: true,
			want: verdict{state: "Pending", message: "pod p has not been captured yet", stalled: "NoStorageLocation"}},
		"the pod is gone": {age: time.Minute,
			want: verdict{state: "Pending", message: "pod p is gone; node n has not reported a capture yet", again: 9 * time.Minute}},
		"gone for long": {age: time.Hour,
			want: verdict{state: "Failed", message: "SourceExited: node n captured nothing"}},
		"gone with its node": {age: time.Hour, down: true,
			want: verdict{state: "Failed", message: "NodeUnavailable: node n is not ready; what it captured can be published when it is back"}},
		"ended by itself just now": {ended: time.Second,
			want: verdict{state: "Pending", message: "pod p has ended by itself, as it seems; node n may say otherwise", again: 14 * time.Second}},
		"ended by itself": {ended: time.Minute, age: time.Hour,
			want: verdict{state: "Discarded", message: "the pod's containers had ended by themselves before they were to be stopped"}},
		"what was known of a pod that is gone stays": {conditions: conditions("Ready", "False", "Discarded"), age: time.Hour,
			want: verdict{state: "Discarded", message: "as reported"}},
		"the node says it has nothing yet": {conditions: conditions("Captured", "False", "Pending"), pod: going,
			want: verdict{state: "Pending", message: "pod p has not been captured yet"}},
		"it is written": {conditions: conditions("Captured", "False", "Dumping"),
			want: verdict{state: "Dumping", message: "as reported"}},
		"its node went while it was written": {conditions: conditions("Captured", "False", "Dumping"), down: true,
			want: verdict{state: "Dumping", message: "as reported", stalled: "NodeUnavailable"}},
		"CRIU refused": {conditions: conditions("Captured", "False", "DumpFailed"),
			want: verdict{state: "Failed", message: "DumpFailed: as reported"}},
		"it is not wanted": {conditions: conditions("Captured", "False", "Discarded"),
			want: verdict{state: "Discarded", message: "as reported"}},
		"it has expired": {conditions: conditions("Ready", "False", "Expired", "Captured", "True", "Completed", "Uploaded", "True", "Completed"),
			want: verdict{state: "Expired", message: "as reported"}},
		"there was nothing to capture": {conditions: conditions("Captured", "False", "SourceExited"),
			want: verdict{state: "Discarded", message: "as reported"}},
		"it is on the node": {conditions: conditions("Captured", "True", "Completed"),
			want: verdict{state: "Uploading", message: "safe on node n, on its way to the bucket"}},
		"a report that came late": {conditions: conditions("Ready", "False", "Failed", "Captured", "True", "Completed", "Uploaded", "False", "Uploading"),
			age: time.Hour, want: verdict{state: "Uploading", message: "as reported"}},
		"it is on the node, and there is no bucket": {conditions: conditions("Captured", "True", "Completed", "Uploaded", "False", "StorageUnavailable"),
			nowhere: true,
			want:    verdict{state: "Uploading", message: "as reported", stalled: "NoStorageLocation"}},
		"it is on a node that is gone": {conditions: conditions("Captured", "True", "Completed", "Uploaded", "False", "Uploading"), down: true,
			want: verdict{state: "Uploading", message: "as reported", stalled: "NodeUnavailable"}},
		"it is in the bucket": {conditions: conditions("Captured", "True", "Completed", "Uploaded", "True", "Completed"), down: true, nowhere: true,
			want: verdict{state: "Completed", message: "a new pod of the same lineage can be restored from it"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts{
				checkpoint: &v1alpha1.Checkpoint{
					ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made)}, Spec: v1alpha1.CheckpointSpec{SourcePodName: "p"},
					Status: v1alpha1.CheckpointStatus{Conditions: test.conditions, Source: &v1alpha1.CheckpointSource{Node: "n"}},
				},
				pod: test.pod, nodeUp: !test.down, now: made.Add(test.age),
			}
			if test.nowhere {
				f.nowhere, f.help = v1alpha1.ReasonNoStorageLocation, "there is none"
			}
			if test.ended > 0 {
				f.ended = f.now.Add(-test.ended)
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

func TestEndedByItself(t *testing.T) {
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"all is done":                    {ended(0, corev1.PodSucceeded), true},
		"it failed":                      {ended(3, corev1.PodFailed), true},
		"it was killed, as by a capture": {ended(137, corev1.PodFailed), false},
		"it runs":                        {ended(0, corev1.PodRunning), false},
		"nothing is known":               {&corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed}}, false},
	} {
		if got := endedByItself(test.pod); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestAStandingSentenceIsKept(t *testing.T) {
	there := []metav1.Condition{{Type: v1alpha1.CheckpointStalled, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonNoStorageLocation, Message: "the agent's"}}
	if got, wanted := stalledOf(there, verdict{stalled: v1alpha1.ReasonNoStorageLocation, help: "ours"}); !wanted || got.Message != "the agent's" {
		t.Errorf("it is %+v", got)
	}
	if got, _ := stalledOf(there, verdict{stalled: v1alpha1.ReasonNodeUnavailable, help: "ours"}); got.Message != "ours" {
		t.Errorf("for another reason it is %+v", got)
	}
	if _, wanted := stalledOf(there, verdict{}); wanted {
		t.Error("it stays when there is no reason any more")
	}
}
