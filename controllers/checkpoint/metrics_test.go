package checkpoint

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

func TestCheckpointsAreTallied(t *testing.T) {
	objects.Reset()
	stalledObjects.Reset()
	var there tally
	say := func(name string, words ...string) *v1alpha1.Checkpoint {
		c := &v1alpha1.Checkpoint{ObjectMeta: metav1.ObjectMeta{Namespace: "tallied", Name: name}}
		c.Status.Conditions = conditions(words...)
		there.set(c)
		return c
	}
	expect := func(when, text string) {
		t.Helper()
		whole := "# HELP checkpoint_objects " + objectsHelp + "\n# TYPE checkpoint_objects gauge\n" + text
		if err := testutil.CollectAndCompare(objects, strings.NewReader(whole)); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	a := say("a")
	say("b", v1alpha1.CheckpointReady, "True", v1alpha1.StateCompleted)
	say("b", v1alpha1.CheckpointReady, "True", v1alpha1.StateCompleted)
	expect("at first", `checkpoint_objects{namespace="tallied",state="Completed"} 1
checkpoint_objects{namespace="tallied",state="Pending"} 1
`)
	say("a", v1alpha1.CheckpointReady, "False", v1alpha1.StateUploading, v1alpha1.CheckpointStalled, "True", v1alpha1.ReasonNoStorageLocation)
	if got := testutil.ToFloat64(stalledObjects.WithLabelValues("tallied", v1alpha1.ReasonNoStorageLocation)); got != 1 {
		t.Errorf("%v are stalled", got)
	}
	say("a", v1alpha1.CheckpointReady, "True", v1alpha1.StateCompleted, v1alpha1.CheckpointStalled, "False", v1alpha1.ReasonNoStorageLocation)
	if got := testutil.CollectAndCount(stalledObjects); got != 0 {
		t.Errorf("%d series tell of stalled ones; there is none any more", got)
	}
	expect("when both are complete", `checkpoint_objects{namespace="tallied",state="Completed"} 2
`)
	now := metav1.Now()
	a.DeletionTimestamp = &now
	there.set(a)
	there.drop(types.NamespacedName{Namespace: "tallied", Name: "b"})
	expect("when one is deleted, and one is gone", `checkpoint_objects{namespace="tallied",state="Deleting"} 1
`)
	there.drop(types.NamespacedName{Namespace: "tallied", Name: "a"})
	if got := testutil.CollectAndCount(objects); got != 0 || len(there.says) != 0 {
		t.Errorf("%d series are left, and %v", got, there.says)
	}
}

const objectsHelp = "Checkpoints that there are, by namespace and state: the reason of their condition Ready, or Deleting."
