package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/stored"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
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
	c := b.checkpoint("a-a-uid")
	if opened != 2 || !isTrue(c, v1alpha1.CheckpointUploaded) || meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointStalled) != nil {
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

func TestAStoredStateSaysWhoseItIs(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.write(filepath.Join(dir, stored.FileName), `{"kind":`) // what a power cut left
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	opened, err := (&image.Folder{Store: b.store, Name: folder(c)}).Discover(t.Context(), string(c.UID))
	if err != nil || opened.Checkpoint.Digest != c.Status.ManifestDigest {
		t.Fatalf("it is %+v, %v", opened, err)
	}
	data, err := opened.ReadFile(t.Context(), stored.FileName, stored.MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	got, err := stored.Decode(data, c.Namespace, c.Status.Source.Lineage)
	if err != nil {
		t.Fatal(err)
	}
	want := stored.Checkpoint(c)
	want.Finalizers, want.Labels = c.Finalizers, c.Labels
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// lose takes a Checkpoint away without its data, and makes it anew as a sync does.
func (b *bench) lose(c *v1alpha1.Checkpoint) (again *v1alpha1.Checkpoint) {
	b.t.Helper()
	again = &v1alpha1.Checkpoint{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name, Labels: c.Labels}, Spec: c.Spec, Status: c.Status}
	again.UID, again.Status.StorageName = "other-uid", c.StorageName()
	c.Finalizers = nil
	if err := errors.Join(b.Client.Update(b.t.Context(), c), b.Client.Delete(b.t.Context(), c)); err != nil {
		b.t.Fatal(err)
	}
	status := again.Status
	if err := b.Client.Create(b.t.Context(), again); err != nil {
		b.t.Fatal(err)
	}
	again.Status = status
	if err := b.Client.Status().Update(b.t.Context(), again); err != nil {
		b.t.Fatal(err)
	}
	return again
}

func TestARecreatedCheckpointIsTheOneThatWasLost(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	c := b.lose(b.checkpoint("a-a-uid"))
	if b.look(dir); !isThere(dir) || len(b.store.keys(folder(c)+"/manifests")) != 1 {
		t.Errorf("the folder is there: %t, the bucket has %v", isThere(dir), b.store.keys(""))
	}
	if err := b.remove(dir); err != nil {
		t.Fatal(err)
	}
	if record, err := b.fetch(t.Context(), newPod("new"), c); err != nil || record.Pod.UID != "a-uid" {
		t.Errorf("from the bucket: %+v, %v", record, err)
	}
	bases, err := b.bases(t.Context(), b.checkpoint(c.Name), c.Status.Source, "main")
	if err != nil || len(bases) > 0 {
		t.Errorf("it is a base of itself: %v, %v", bases, err)
	}
	bases, err = b.bases(t.Context(), &v1alpha1.Checkpoint{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, UID: "later"}}, c.Status.Source, "main")
	if want := []image.Checkpoint{{Name: c.Status.StorageName, Digest: c.Status.ManifestDigest}}; err != nil || !slices.Equal(bases, want) {
		t.Errorf("the bases of a later one are %v, %v", bases, err)
	}
}

// What an agent says of an uploaded state cannot be taken back: the schema does not let the digest go. So one that was killed before it had noted the
// upload does not begin another.
func TestWhatIsUploadedIsNotedAfterADeath(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	said := b.checkpoint("a-a-uid").Status
	if err := errors.Join(os.Remove(filepath.Join(dir, memoFile)), os.Remove(filepath.Join(dir, capture.UploadedFile))); err != nil {
		t.Fatal(err)
	}
	b.work, b.store.calls = map[string]*publication{}, 0
	b.look(dir)
	if diff := cmp.Diff(said, b.checkpoint("a-a-uid").Status); diff != "" || b.store.calls > 0 || !isUploadedFrom(dir) {
		t.Errorf("noted %t, %d calls to the bucket, the status (-before +after)\n%s", isUploadedFrom(dir), b.store.calls, diff)
	}
	b.now = b.now.Add(cacheTime + time.Minute)
	if b.look(dir); isThere(dir) {
		t.Error("its folder stays for good")
	}
}

func TestAnUploadSaysHowFarItIs(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	clock, told := sync.Once{}, int64(0)
	b.store.before = func(_ context.Context, call, key string) {
		switch {
		case call == "Put" && strings.Contains(key, "/packs/"):
			clock.Do(func() { b.now = b.now.Add(progressInterval) })
		case call == "Put" && strings.Contains(key, "/manifests/"):
			for end := time.Now().Add(time.Minute); told == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) { // a goroutine tells it
				if at := b.checkpoint("a-a-uid").Status.UploadedBytes; at != nil {
					told = *at
				}
			}
		}
	}
	dir := b.captured(pod, "1", capture.Complete)
	b.write(filepath.Join(dir, "containers/app/criu/pages-2.img"), strings.Repeat("more", 20<<20))
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	if told <= 0 || c.Status.UploadedBytes != nil {
		t.Errorf("on its way it says %d, and at its end %v", told, c.Status.UploadedBytes)
	}
	is(t, c, v1alpha1.CheckpointUploaded, metav1.ConditionTrue, v1alpha1.StateCompleted, "21Ki sent to main in 2s")
}
