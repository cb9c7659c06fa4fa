package retention

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// naming is a pod that begins from the Checkpoint c-0.
func naming(phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "clone", Annotations: map[string]string{keys.RestoreFrom: "c-0"}}, Status: corev1.PodStatus{Phase: phase},
	}
}

func TestWhatAPodBeginsFromStaysAsLongAsThePod(t *testing.T) {
	goes, old := step{cause: causeTTL}, 2*v1alpha1.DefaultTTL
	for what, test := range map[string]struct {
		pods   []corev1.Pod
		change func(*v1alpha1.Checkpoint)
		want   step
	}{
		"no pod names it":         {want: goes},
		"a pod names it":          {pods: []corev1.Pod{*naming(corev1.PodRunning)}, want: step{keep: true}},
		"a pod waits for it":      {pods: []corev1.Pod{*naming(corev1.PodPending)}, want: step{keep: true}},
		"which has failed":        {pods: []corev1.Pod{*naming(corev1.PodFailed)}, want: step{keep: true}},
		"which has done its work": {pods: []corev1.Pod{*naming(corev1.PodSucceeded)}, want: goes},
		"which was restored":      {pods: []corev1.Pod{*naming(corev1.PodRunning)}, change: claimed(v1alpha1.ClaimConsumed, old), want: step{keep: true}},
		"it has expired already": {
			pods: []corev1.Pod{*naming(corev1.PodRunning)}, change: in(v1alpha1.StateExpired, time.Hour), want: step{delete: true, keep: true},
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := complete("c-0", old)
			if test.change != nil {
				test.change(&c)
			}
			f := facts{checkpoints: []v1alpha1.Checkpoint{c}, beginnings: beginningsOf(test.pods), now: now}
			got := f.judge(&f.checkpoints[0])
			got.message = ""
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(step{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if f.mayGo(&f.checkpoints[0]) && got.keep {
				t.Error("it makes room for others")
			}
		})
	}
}

func TestThePodsThatMatter(t *testing.T) {
	other := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	p := ofPods()
	for what, test := range map[string]struct{ got, want bool }{
		"one that names a Checkpoint goes":          {p.Delete(event.DeleteEvent{Object: naming(corev1.PodRunning)}), true},
		"one that names a Checkpoint runs":          {p.Update(event.UpdateEvent{ObjectOld: naming(corev1.PodPending), ObjectNew: naming(corev1.PodRunning)}), false},
		"one that names a Checkpoint fails":         {p.Update(event.UpdateEvent{ObjectOld: naming(corev1.PodRunning), ObjectNew: naming(corev1.PodFailed)}), false},
		"one that names a Checkpoint is made":       {p.Create(event.CreateEvent{Object: naming(corev1.PodPending)}), true},
		"one names a Checkpoint from now on":        {p.Update(event.UpdateEvent{ObjectOld: other, ObjectNew: naming(corev1.PodRunning)}), true},
		"one that names a Checkpoint does its work": {p.Update(event.UpdateEvent{ObjectOld: other, ObjectNew: naming(corev1.PodSucceeded)}), true},
		"another goes":     {p.Delete(event.DeleteEvent{Object: other}), false},
		"another succeeds": {p.Create(event.CreateEvent{Object: &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}}), true},
	} {
		if test.got != test.want {
			t.Errorf("%s: %t", what, test.got)
		}
	}
}
