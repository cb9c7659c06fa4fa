package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/storage"
)

func TestAnUploadThatNeedsAPersonIsStalledAndSaysWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		says string // of Stalled; empty is that it is not there
	}{
		"no bucket":             {storage.ErrNoBucket, "the bucket does not exist. " + storage.Advice(storage.ErrNoBucket)},
		"no right":              {storage.ErrAccessDenied, "access is denied. " + storage.Advice(storage.ErrAccessDenied)},
		"another region":        {storage.ErrWrongRegion, "the region is wrong. " + storage.Advice(storage.ErrWrongRegion)},
		"a clock that is wrong": {storage.ErrClockSkew, "the clocks differ by too much. " + storage.Advice(storage.ErrClockSkew)},
		"a full bucket":         {storage.ErrNoSpace, "the store is full. " + storage.Advice(storage.ErrNoSpace)},
		"a wrong request":       {storage.ErrInvalid, "invalid"},
		"no answer":             {storage.ErrUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod("a")
			b := noted(t, pod)
			b.store.broken = test.err
			b.look(b.captured(pod, "1", capture.Complete))
			said := ""
			if c := meta.FindStatusCondition(b.checkpoint("a-a-uid").Status.Conditions, v1alpha1.CheckpointStalled); c != nil {
				said = c.Message
			}
			if said != test.says && (test.says == "" || !strings.HasSuffix(said, ": "+test.says)) {
				t.Errorf("it is stalled for %q; it should be for %q", said, test.says)
			}
		})
	}
}

// The service knows the old access key no more; whoever rotates it writes the new one into the Secret, and nothing is started anew.
func TestCredentialsAreRotatedWithoutARestart(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	opened, valid := 0, "second"
	b.Open = func(_ context.Context, _ *v1alpha1.CheckpointStorageLocation, secret map[string][]byte) (storage.Store, error) {
		opened++
		if got := string(secret[v1alpha1.CredentialsAccessKeyID]); got != valid {
			return &memory{broken: fmt.Errorf("key %q: %w", got, storage.ErrAccessDenied)}, nil
		}
		return b.store, nil
	}
	dir := b.captured(pod, "1", capture.Complete)
	for range 2 {
		b.look(dir)
		is(t, b.checkpoint("a-a-uid"), v1alpha1.CheckpointCaptured, metav1.ConditionTrue, v1alpha1.StateCompleted, "safe on node worker-1")
		b.now = b.now.Add(longestWait)
	}
	if opened != 1 || isTrue(b.checkpoint("a-a-uid"), v1alpha1.CheckpointUploaded) {
		t.Fatalf("with the old key it was opened %d times: %+v", opened, b.checkpoint("a-a-uid").Status.Conditions)
	}
	secret := &corev1.Secret{}
	if err := b.Client.Get(t.Context(), client.ObjectKey{Namespace: "operator", Name: "bucket"}, secret); err != nil {
		t.Fatal(err)
	}
	secret.Data = map[string][]byte{v1alpha1.CredentialsAccessKeyID: []byte(valid)}
	if err := b.Client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	b.look(dir)
	if c := b.checkpoint("a-a-uid"); opened != 2 || !isTrue(c, v1alpha1.CheckpointUploaded) || meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointStalled) != nil {
		t.Errorf("with the new key it was opened %d times: %+v", opened, c.Status.Conditions)
	}
	stores := 0
	for _, store := range b.stores {
		if store != nil { // the others are no stores
			stores++
		}
	}
	if stores != 1 {
		t.Errorf("%d stores are kept, that of the old key among them", stores)
	}
}
