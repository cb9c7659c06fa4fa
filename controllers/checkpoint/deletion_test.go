package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/deleted"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
)

func TestADeletedCheckpoint(t *testing.T) {
	unreachable := errors.New("the bucket is on another planet")
	for name, test := range map[string]struct {
		location string        // of its status
		digest   string        // of its manifest
		ago      time.Duration // since it was deleted
		fails    error         // of opening the store
		left     bool          // the data is
		stays    bool          // the object does
		noted    string        // what is noted of it
		events   int
	}{
		"goes with its data":                                {location: "default", digest: "sha256:1234"},
		"stays while it may be uploaded":                    {location: "default", stays: true},
		"goes when its upload must have ended":              {location: "default", ago: uploadEnds},
		"goes at once when nothing was uploaded":            {fails: unreachable, left: true},
		"stays while its data cannot be deleted":            {location: "default", ago: time.Minute, fails: unreachable, left: true, stays: true, events: 1},
		"goes and leaves its data where nothing is deleted": {location: "museum", left: true, events: 1},
		"goes, leaves its data, and does not come back":     {location: "mirror", left: true, events: 1, noted: "default/c"},
		"stays while its location is missing":               {location: "other", ago: time.Minute, left: true, stays: true, events: 1},
		"goes after a time, leaves its data, and does not come back": {location: "synced", ago: deletionTime, fails: unreachable, left: true, events: 1,
			noted: "default/c " + keys.StorageFolder("default", "one")},
		"goes after a time, and says what it leaves there": {location: "default", ago: deletionTime, fails: unreachable, left: true, events: 1,
			noted: "default/c " + keys.StorageFolder("default", "one")},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			c := &v1alpha1.Checkpoint{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: "default", Name: "c", UID: "1234", Finalizers: []string{keys.CheckpointFinalizer}, DeletionTimestamp: &metav1.Time{Time: now.Add(-test.ago)},
				},
				Status: v1alpha1.CheckpointStatus{
					LocationName: test.location, ManifestDigest: test.digest, StorageName: "first", Source: &v1alpha1.CheckpointSource{Lineage: "one"},
				},
			}
			key := path.Join(keys.StorageFolder(c.Namespace, "one"), "packs", "first", "1")
			store := &shelf{keys: []string{key}}
			recorder := events.NewFakeRecorder(10)
			r := &Reconciler{
				Client: newClient(t, c), Recorder: recorder, Now: func() time.Time { return now },
				Options: Options{Namespace: "operator", Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
					return store, test.fails
				}},
			}
			result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(c)})
			if err != nil {
				t.Fatal(err)
			}
			err = r.Client.Get(t.Context(), client.ObjectKeyFromObject(c), &v1alpha1.Checkpoint{})
			if client.IgnoreNotFound(err) != nil {
				t.Fatal(err)
			}
			if stays := !apierrors.IsNotFound(err); stays != test.stays || stays != (result.RequeueAfter > 0) {
				t.Errorf("it stays: %t; it is looked at again after %s", stays, result.RequeueAfter)
			}
			if left := slices.Contains(store.keys, key); left != test.left {
				t.Errorf("the data is left: %t", left)
			}
			notes, err := deleted.Read(t.Context(), r.Client, "operator", test.location)
			if err != nil || test.noted != notes["first"] {
				t.Errorf("the notes are %v, %v", notes, err)
			}
			if got := len(recorder.Events); got != test.events {
				t.Errorf("there are %d events", got)
			}
		})
	}
}

// A manager that is killed in the middle leaves some of the objects. The Checkpoint stays, and the next manager deletes the rest: what is left is never
// what a restore would take for whole, as the manifest goes first.
func TestADeletionThatWasCutOffIsFinished(t *testing.T) {
	now := time.Now()
	c := &v1alpha1.Checkpoint{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "c", UID: "1234", Finalizers: []string{keys.CheckpointFinalizer}, DeletionTimestamp: &metav1.Time{Time: now},
		},
		Status: v1alpha1.CheckpointStatus{LocationName: "default", ManifestDigest: "sha256:1234", Source: &v1alpha1.CheckpointSource{Lineage: "one"}},
	}
	folder := keys.StorageFolder(c.Namespace, "one")
	store := &shelf{keys: []string{folder + "/packs/1234/1", folder + "/packs/1234/2", folder + "/manifests/1234"}, deletions: 1}
	r := &Reconciler{
		Client: newClient(t, c), Recorder: events.NewFakeRecorder(10), Now: func() time.Time { return now },
		Options: Options{Namespace: "operator", Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
			return store, nil
		}},
	}
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(c)}
	if _, err := r.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if err := r.Client.Get(t.Context(), request.NamespacedName, c); err != nil || slices.Contains(store.keys, folder+"/manifests/1234") || len(store.keys) != 2 {
		t.Fatalf("in the middle: %v; the bucket has %v", err, store.keys)
	}
	store.deletions = 100
	if _, err := r.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if err := r.Client.Get(t.Context(), request.NamespacedName, c); !apierrors.IsNotFound(err) || len(store.keys) > 0 {
		t.Errorf("in the end: %v; the bucket has %v", err, store.keys)
	}
}

// shelf is a store of which only what a deletion calls is there. It fails after that many deletions; 0 is never.
type shelf struct {
	storage.Store
	mu                 sync.Mutex
	keys               []string
	content            string // of each object
	deletions, deleted int
}

func (s *shelf) Get(context.Context, string, storage.Range) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(s.content)), nil
}

func (s *shelf) List(_ context.Context, prefix, _ string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for _, key := range slices.Clone(s.keys) {
			if strings.HasPrefix(key, prefix) && !yield(storage.Info{Key: key}, nil) {
				return
			}
		}
	}
}

func (s *shelf) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deleted++; s.deletions > 0 && s.deleted > s.deletions {
		return errors.New("the plug was pulled")
	}
	s.keys = slices.DeleteFunc(s.keys, func(k string) bool { return k == key })
	return nil
}

func newClient(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	objects = append(objects,
		&v1alpha1.CheckpointStorageLocation{
			ObjectMeta: metav1.ObjectMeta{Name: "default"},
			Spec:       v1alpha1.CheckpointStorageLocationSpec{Credentials: v1alpha1.LocationCredentials{SecretName: "bucket"}},
		},
		&v1alpha1.CheckpointStorageLocation{
			ObjectMeta: metav1.ObjectMeta{Name: "museum"}, Spec: v1alpha1.CheckpointStorageLocationSpec{AccessMode: v1alpha1.AccessReadOnly},
		},
		&v1alpha1.CheckpointStorageLocation{
			ObjectMeta: metav1.ObjectMeta{Name: "mirror"},
			Spec:       v1alpha1.CheckpointStorageLocationSpec{AccessMode: v1alpha1.AccessReadOnly, SyncInterval: &metav1.Duration{Duration: time.Minute}},
		},
		&v1alpha1.CheckpointStorageLocation{
			ObjectMeta: metav1.ObjectMeta{Name: "synced"},
			Spec: v1alpha1.CheckpointStorageLocationSpec{
				SyncInterval: &metav1.Duration{Duration: time.Minute}, Credentials: v1alpha1.LocationCredentials{SecretName: "bucket"},
			},
		},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: "bucket"}})
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.Checkpoint{}).Build()
}

// A manifest that cannot be read may name any pack, so none is deleted; it is said what is missing, and after a time what stays.
func TestADeletionBesideACheckpointWithoutItsKey(t *testing.T) {
	location := &v1alpha1.CheckpointStorageLocation{ObjectMeta: metav1.ObjectMeta{Name: "encrypted"}, Spec: v1alpha1.CheckpointStorageLocationSpec{
		Credentials: v1alpha1.LocationCredentials{SecretName: "bucket"}, Encryption: &v1alpha1.LocationEncryption{SecretName: "keys", CurrentKey: "a"},
	}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: "keys"}, Data: map[string][]byte{"a": bytes.Repeat([]byte{1}, 32)}}
	deleted := time.Now()
	c := &v1alpha1.Checkpoint{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "c", UID: "1234", Finalizers: []string{keys.CheckpointFinalizer}, DeletionTimestamp: &metav1.Time{Time: deleted},
		},
		Status: v1alpha1.CheckpointStatus{LocationName: "encrypted", Source: &v1alpha1.CheckpointSource{Lineage: "one"}},
	}
	folder := keys.StorageFolder(c.Namespace, "one")
	store := &shelf{
		keys:    []string{folder + "/packs/1234/1", folder + "/packs/other/1", folder + "/manifests/1234", folder + "/manifests/other"},
		content: "TCKPTMAN\x02\x00\x01\x00" + strings.Repeat("\x00", 100), // encrypted, with a key that nobody has
	}
	recorder, now := events.NewFakeRecorder(10), deleted
	r := &Reconciler{
		Client: newClient(t, c, location, secret), Recorder: recorder, Now: func() time.Time { return now },
		Options: Options{Namespace: "operator", Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
			return store, nil
		}},
	}
	request := ctrl.Request{NamespacedName: client.ObjectKeyFromObject(c)}
	for _, part := range []string{"DeletionFailed", "DataLeftBehind"} {
		if _, err := r.Reconcile(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		said := <-recorder.Events
		for _, part := range []string{part, "is not among the 1 known ones", `put it back into the Secret "keys"`} {
			if !strings.Contains(said, part) {
				t.Errorf("it lacks %q: %s", part, said)
			}
		}
		if want := []string{folder + "/packs/1234/1", folder + "/packs/other/1", folder + "/manifests/other"}; !slices.Equal(want, store.keys) {
			t.Errorf("the bucket has %q", store.keys)
		}
		now = deleted.Add(deletionTime)
	}
	if err := r.Client.Get(t.Context(), request.NamespacedName, c); !apierrors.IsNotFound(err) {
		t.Errorf("in the end: %v", err)
	}
}
