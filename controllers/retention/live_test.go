package retention

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// milestone has a Checkpoint be of a pod that went on.
func milestone(c *v1alpha1.Checkpoint) { c.Spec.Trigger = v1alpha1.TriggerInterval }

func ofPod(uid string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) { c.Status.Source.PodUID = types.UID(uid) }
}

func TestOfAPodThatGoesOnTheLastOnesAreKept(t *testing.T) {
	all := func(all ...v1alpha1.Checkpoint) []v1alpha1.Checkpoint { return all }
	for name, test := range map[string]struct {
		all       []v1alpha1.Checkpoint // the first of which is judged
		succeeded bool
		want      cause
		delete    bool
	}{
		"the only one": {all: all(complete("a", time.Hour, milestone, shared, ofPod("p")))},
		"three of a pod": {
			all: all(complete("a", time.Hour, milestone, shared, ofPod("p")), complete("b", 3*time.Minute, milestone, shared, ofPod("p")),
				complete("c", time.Minute, milestone, shared, ofPod("p"))),
		},
		"the fourth last": {
			all: all(complete("a", time.Hour, milestone, shared, ofPod("p")), complete("b", 3*time.Minute, milestone, shared, ofPod("p")),
				complete("c", 2*time.Minute, milestone, shared, ofPod("p")), complete("d", time.Minute, shared, ofPod("p"))),
			want: causeKeepLast,
		},
		"those of neighbours": {
			all: all(complete("a", time.Hour, milestone, shared, ofPod("p")), complete("b", 3*time.Minute, milestone, shared, ofPod("q")),
				complete("c", 2*time.Minute, milestone, shared, ofPod("q")), complete("d", time.Minute, milestone, shared, ofPod("q"))),
		},
		"of the same place": {
			all: all(complete("a", time.Hour, milestone, ofPod("p")), complete("b", 3*time.Minute, milestone, ofPod("q")),
				complete("c", 2*time.Minute, milestone, ofPod("q")), complete("d", time.Minute, milestone, ofPod("r"))),
			want: causeKeepLast,
		},
		"a pod's last ones beside many of others": {
			all: all(complete("a", time.Hour, shared, ofPod("p"), claimed(v1alpha1.ClaimConsumed, time.Minute)),
				complete("b", 3*time.Minute, milestone, shared, ofPod("q")),
				complete("c", 2*time.Minute, milestone, shared, ofPod("q")), complete("d", time.Minute, milestone, shared, ofPod("q"))),
		},
		"another was gone on from": {
			all: all(complete("a", time.Hour, milestone, shared, ofPod("p")),
				complete("b", time.Minute, shared, ofPod("p"), claimed(v1alpha1.ClaimConsumed, time.Minute))),
			want: causeConsumed,
		},
		"another is about to be": {
			all: all(complete("a", time.Hour, milestone, shared, ofPod("p")), complete("b", time.Minute, shared, ofPod("p"), claimed(v1alpha1.ClaimClaimed, 0))),
		},
		"the pod has done its work": {all: all(complete("a", time.Hour, milestone, shared, ofPod("p"))), succeeded: true, want: causeCompleted},
		"it failed":                 {all: all(complete("a", time.Hour, milestone, shared, ofPod("p"), in(v1alpha1.StateFailed, time.Hour)))},
		"it failed, and another came": {
			all: all(complete("a", time.Hour, milestone, shared, ofPod("p"), in(v1alpha1.StateFailed, time.Hour)),
				complete("b", time.Minute, milestone, shared, ofPod("p"))),
			want: causeStateless, delete: true,
		},
	} {
		f := facts{checkpoints: test.all, now: now}
		if test.succeeded {
			f.succeeded = succeededAmong([]corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "p"}, Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}})
		}
		got := f.judge(&f.checkpoints[0])
		diff := cmp.Diff([]any{test.want, test.delete}, []any{got.cause, got.delete && got.cause != ""})
		if got.after == 0 && test.want == "" || diff != "" && test.want != "" {
			t.Errorf("%s: %+v (-want +got):\n%s", name, got, diff)
		}
	}
}
