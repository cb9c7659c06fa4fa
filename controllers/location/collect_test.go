package location

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/deleted"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
)

// What could not be deleted goes when its location can be used, and nothing else does.
func TestWhatWasLeftBehindIsCollected(t *testing.T) {
	location := &v1alpha1.CheckpointStorageLocation{ObjectMeta: metav1.ObjectMeta{Name: "main", Generation: 1}}
	location.Spec.Credentials.SecretName = "bucket"
	b := newBench(t, location)
	c := &Collector{Options: b.Options, Client: b.Client, Live: b.Client, Recorder: b.Recorder}
	left, kept, wanted := state("shop", "left"), state("shop", "kept"), state("shop", "wanted")
	for _, s := range []*v1alpha1.Checkpoint{left, kept, wanted} {
		b.put(s)
		s.Status.LocationName = "main"
	}
	folder := keys.StorageFolder("shop", "one")
	for s, from := range map[*v1alpha1.Checkpoint]string{left: folder, kept: ""} {
		if err := deleted.Note(t.Context(), b.Client, "operator", s, from); err != nil {
			t.Fatal(err)
		}
	}
	look := func(what string, available bool, inBucket, notes int) {
		t.Helper()
		status := metav1.ConditionFalse
		if available {
			status = metav1.ConditionTrue
		}
		now := &v1alpha1.CheckpointStorageLocation{}
		if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(location), now); err != nil {
			t.Fatal(err)
		}
		meta.SetStatusCondition(&now.Status.Conditions, metav1.Condition{Type: v1alpha1.LocationAvailable, Status: status, Reason: "Test"})
		if err := b.Client.Status().Update(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		result, err := c.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(location)})
		if err != nil || result.RequeueAfter != collectInterval {
			t.Errorf("%s: it is looked at again in %s, %v", what, result.RequeueAfter, err)
		}
		states := 0
		for key := range b.bucket.objects {
			if strings.HasPrefix(key, folder+"/manifests/") {
				states++
			}
		}
		noted, err := deleted.Read(t.Context(), b.Client, "operator", "main")
		if err != nil || states != inBucket || len(noted) != notes {
			t.Errorf("%s: the bucket has %d states, there are the notes %v, %v", what, states, noted, err)
		}
	}
	look("while the location cannot be used", false, 3, 2)
	b.bucket.delete = storage.ErrUnavailable
	look("when it fails in the middle", true, 2, 2)
	b.bucket.delete = nil
	look("when it can", true, 2, 1)
	look("once more", true, 2, 1)
}
