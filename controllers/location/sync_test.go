package location

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/deleted"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/stored"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

var errKilled = errors.New("the manager is killed")

// bench is a syncer with an API server, a bucket and a clock of its own.
type bench struct {
	*Syncer
	t      *testing.T
	bucket *shelf
	now    time.Time
	// writes is how many writes the API server takes before the manager is killed; negative is no end.
	writes int
	// before, unless nil, is called before each Checkpoint is made.
	before func()
}

func newBench(t *testing.T, objects ...client.Object) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	b := &bench{t: t, bucket: &shelf{objects: map[string][]byte{}}, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), writes: -1}
	objects = append(objects,
		&v1alpha1.CheckpointStorageLocation{
			ObjectMeta: metav1.ObjectMeta{Name: "mirror", Generation: 1},
			Spec: v1alpha1.CheckpointStorageLocationSpec{
				AccessMode: v1alpha1.AccessReadOnly, SyncInterval: &metav1.Duration{Duration: 10 * time.Minute},
				Credentials: v1alpha1.LocationCredentials{SecretName: "bucket"},
			},
		},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: "bucket"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	write := func() error {
		if b.writes == 0 {
			return errKilled
		}
		b.writes--
		return nil
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.Checkpoint{}, &v1alpha1.CheckpointStorageLocation{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if b.before != nil {
					b.before()
				}
				o.SetUID(types.UID("new-" + o.GetName())) // as the API server does
				return errors.Join(write(), c.Create(ctx, o, opts...))
			},
			SubResourceApply: func(ctx context.Context, c client.Client, sub string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
				if err := write(); err != nil {
					return err
				}
				return c.SubResource(sub).Apply(ctx, o, opts...)
			},
		}).Build()
	b.Syncer = &Syncer{
		most:   mostRecreated,
		Client: c, Live: c, Recorder: events.NewFakeRecorder(100), Now: func() time.Time { return b.now },
		Options: Options{Namespace: "operator", Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
			return b.bucket, nil
		}},
	}
	return b
}

// state is the Checkpoint of a pod of a namespace, as the cluster that captured it has it.
func state(namespace, pod string) *v1alpha1.Checkpoint {
	cut := metav1.NewTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Local())
	return &v1alpha1.Checkpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod + "-1234", UID: types.UID(pod + "-uid"), Labels: map[string]string{keys.Workload: "db"}},
		Spec:       v1alpha1.CheckpointSpec{SourcePodName: pod, SourcePodUID: "1234", Trigger: v1alpha1.TriggerTermination},
		Status: v1alpha1.CheckpointStatus{
			Source: &v1alpha1.CheckpointSource{PodUID: "1234", Node: "worker-9", Lineage: "one", Identity: pod, Labels: map[string]string{"app": "db"},
				Owner: &v1alpha1.Owner{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", UID: "db"}},
			Containers: []v1alpha1.CheckpointContainer{{Name: "app", Image: "app:1", MemoryBytes: new(int64(7))}},
			Machine:    &v1alpha1.CheckpointMachine{Architecture: "amd64", Kernel: "6.12", PageSizeBytes: 4096},
			SizeBytes:  new(int64(300 << 20)), Size: v1alpha1.ReadableSize(300 << 20), Frozen: v1alpha1.ReadableDuration(time.Second), CaptureTime: &cut,
		},
	}
}

// put stores the state of a Checkpoint, as an agent does.
func (b *bench) put(c *v1alpha1.Checkpoint) (digest string) {
	b.t.Helper()
	dir := b.t.TempDir()
	data, err := json.Marshal(stored.Checkpoint(c))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, stored.FileName), data, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	folder := &image.Folder{Store: b.bucket, Name: keys.StorageFolder(c.Namespace, c.Status.Source.Lineage)}
	made, err := folder.Upload(b.t.Context(), string(c.UID), dir, image.UploadOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return made.ManifestDigest
}

func (b *bench) drop(c *v1alpha1.Checkpoint) {
	b.t.Helper()
	folder := &image.Folder{Store: b.bucket, Name: keys.StorageFolder(c.Namespace, c.Status.Source.Lineage)}
	if err := folder.Delete(b.t.Context(), string(c.UID)); err != nil {
		b.t.Fatal(err)
	}
}

// look has the syncer look through the bucket, and returns what it says.
func (b *bench) look() (synced metav1.Condition, again time.Duration) {
	b.t.Helper()
	b.now = b.now.Add(24 * time.Hour)
	result, err := b.Reconcile(b.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: "mirror"}})
	if err != nil {
		b.t.Fatal(err)
	}
	if c := meta.FindStatusCondition(b.location().Status.Conditions, v1alpha1.LocationSynced); c != nil {
		synced = *c
	}
	return synced, result.RequeueAfter
}

func (b *bench) location() *v1alpha1.CheckpointStorageLocation {
	b.t.Helper()
	location := &v1alpha1.CheckpointStorageLocation{}
	if err := b.Client.Get(b.t.Context(), client.ObjectKey{Name: "mirror"}, location); err != nil {
		b.t.Fatal(err)
	}
	return location
}

// says has it look, without anything to complain of, and compares what it says.
func (b *bench) says(message string) {
	b.t.Helper()
	got, again := b.look()
	if got.Status != metav1.ConditionTrue || got.Reason != v1alpha1.LocationSyncCompleted || got.Message != message || got.ObservedGeneration != 1 {
		b.t.Errorf("it says %s, %s: %s\nit should say %s", got.Status, got.Reason, got.Message, message)
	}
	if !b.location().Status.LastSyncTime.Equal(&metav1.Time{Time: b.now}) || again == 0 {
		b.t.Errorf("the time is %v, the next look is after %s", b.location().Status.LastSyncTime, again)
	}
}

func (b *bench) all() map[string]v1alpha1.Checkpoint {
	b.t.Helper()
	list := &v1alpha1.CheckpointList{}
	if err := b.Client.List(b.t.Context(), list); err != nil {
		b.t.Fatal(err)
	}
	all := map[string]v1alpha1.Checkpoint{}
	for _, c := range list.Items {
		all[c.Namespace+"/"+c.Name] = c
	}
	return all
}

func TestACheckpointIsMadeAnewAsItWas(t *testing.T) {
	b := newBench(t)
	was := state("shop", "db-0")
	digest := b.put(was)
	b.says("1 in the bucket, 1 made anew")
	got := b.all()["shop/db-0-1234"]
	want := *was.DeepCopy()
	want.Status.LocationName, want.Status.ManifestDigest, want.Status.StorageName = "mirror", digest, "db-0-uid"
	want.Status.Conditions = got.Status.Conditions
	if diff := cmp.Diff(want.Status, got.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	labels := map[string]string{keys.Lineage: "one", keys.Identity: "db-0", keys.Workload: "db", keys.PodUID: "1234"}
	if diff := cmp.Diff(labels, got.Labels); diff != "" || got.Spec != was.Spec || got.StorageName() != "db-0-uid" || len(got.OwnerReferences) > 0 ||
		len(got.Finalizers) != 1 || got.Annotations[keys.SyncedFrom] != "mirror" {
		t.Errorf("it is %+v\n%s", got, diff)
	}
	for _, kind := range []string{v1alpha1.CheckpointCaptured, v1alpha1.CheckpointUploaded} {
		if !meta.IsStatusConditionTrue(got.Status.Conditions, kind) {
			t.Errorf("it is not %s", kind)
		}
	}
	b.says("1 in the bucket, 0 made anew")
	if diff := cmp.Diff(map[string]v1alpha1.Checkpoint{"shop/db-0-1234": got}, b.all()); diff != "" {
		t.Errorf("the second time something is written (-first +second):\n%s", diff)
	}
}

func TestWhatIsMadeAnewAndWhatIsNot(t *testing.T) {
	own := state("shop", "db-0") // the cluster's own, of the same bucket
	namesake := state("shop", "db-1")
	namesake.UID = "later"
	going := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going", DeletionTimestamp: &metav1.Time{Time: time.Now()}, Finalizers: []string{"x"}}}
	b := newBench(t, own, namesake, going)
	for _, c := range []*v1alpha1.Checkpoint{
		own, state("shop", "db-1"), state("going", "a"), state("nowhere", "b"), state("nowhere", "c"), state("shop", "fine"), state("shop", "fine-too"),
	} {
		b.put(c)
	}
	folder := keys.StorageFolder("shop", "one")
	for key, data := range map[string]string{
		folder + "/manifests/empty":                 "",
		folder + "/manifests/huge":                  strings.Repeat("x", mostManifest+1),
		folder + "/manifests/n.y.et":                "something else",
		"checkpoints/shop/one/two/manifests/deeper": "not a folder of ours",
		"elsewhere/shop/one/manifests/other":        "nor this",
		"checkpoints/No_Name/one/manifests/x":       "of a namespace that there cannot be, about which the API server is not asked",
	} {
		if err := b.bucket.Put(t.Context(), key, storage.Bytes([]byte(data)), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	foreign := state("kube-system", "x") // it says that it is of another namespace than its folder
	foreign.UID = "y-uid"
	dir := t.TempDir()
	data, err := json.Marshal(stored.Checkpoint(foreign))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, stored.FileName), data, 0o600)
	}
	if err == nil {
		_, err = (&image.Folder{Store: b.bucket, Name: folder}).Upload(t.Context(), "y-uid", dir, image.UploadOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	got, again := b.look()
	if got.Reason != v1alpha1.LocationSyncIncomplete || got.Status != metav1.ConditionFalse || again != 10*time.Minute {
		t.Errorf("it is %+v, the next look is after %s", got, again)
	}
	for _, part := range []string{
		"12 in the bucket, 2 made anew; 4 in namespaces that are not there: No_Name, going, nowhere; 5 cannot be made anew: ",
		"shop/db-1-uid: the name db-1-1234 is that of another Checkpoint", "shop/empty: ",
		"shop/huge: its manifest has 67108865 bytes; it may have 67108864", "shop/n.y.et: ", storage.ErrCorrupt.Error(),
		`shop/y-uid: checkpoint.json: metadata.namespace is "kube-system"; it lies in the folder of "shop"`,
	} {
		if !strings.Contains(got.Message, part) {
			t.Errorf("it does not say %q:\n%s", part, got.Message)
		}
	}
	names := map[string]string{}
	for name, c := range b.all() {
		names[name] = c.StorageName()
	}
	want := map[string]string{"shop/db-0-1234": "db-0-uid", "shop/db-1-1234": "later", "shop/fine-1234": "fine-uid", "shop/fine-too-1234": "fine-too-uid"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("Checkpoints and storage names (-want +got):\n%s", diff)
	}
}

func TestABucketDoesNotFillTheAPIServer(t *testing.T) {
	b := newBench(t)
	b.most = 2
	for _, pod := range []string{"a", "b", "c", "d"} {
		b.put(state("shop", pod))
	}
	const excess = "; 2 are more than a location may have made anew in a namespace, which is 10000"
	for _, anew := range []string{"2", "0"} {
		if got, _ := b.look(); got.Reason != v1alpha1.LocationSyncIncomplete || got.Message != "4 in the bucket, "+anew+" made anew"+excess {
			t.Errorf("it is %+v", got)
		}
		if all := b.all(); len(all) != 2 {
			t.Errorf("there are %d Checkpoints", len(all))
		}
		b.now = b.now.Add(time.Hour)
	}
}

// The manager may be killed after any write. Then the next one goes on, and what comes of it is the same.
func TestASyncGoesOnWhereverItWasKilled(t *testing.T) {
	whole := newBench(t)
	whole.put(state("shop", "db-0"))
	whole.look()
	for writes := range 4 {
		b := newBench(t)
		b.put(state("shop", "db-0"))
		b.writes = writes
		b.now = b.now.Add(23 * time.Hour)
		_, _ = b.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: "mirror"}})
		b.now = b.now.Add(-23 * time.Hour)
		b.writes = -1
		b.look()
		ignore := cmp.FilterPath(func(p cmp.Path) bool {
			return slices.Contains([]string{".ResourceVersion", ".LastTransitionTime", ".ManifestDigest"}, p.Last().String())
		}, cmp.Ignore())
		if diff := cmp.Diff(whole.all(), b.all(), ignore); diff != "" {
			t.Errorf("killed after %d writes (-whole +got):\n%s", writes, diff)
		}
	}
}

func TestWhatWasDeletedHereStaysDeleted(t *testing.T) {
	b := newBench(t)
	was := state("shop", "db-0")
	b.put(was)
	b.look()
	c := b.all()["shop/db-0-1234"]
	if err := deleted.Note(t.Context(), b.Client, "operator", &c, ""); err != nil { // as the finalizer does
		t.Fatal(err)
	}
	c.Finalizers = nil
	if err := errors.Join(b.Client.Update(t.Context(), &c), b.Client.Delete(t.Context(), &c)); err != nil {
		t.Fatal(err)
	}
	b.says("1 in the bucket, 0 made anew; 1 were deleted here")
	if len(b.all()) > 0 {
		t.Errorf("there are %v", b.all())
	}
	b.drop(was)
	b.says("0 in the bucket, 0 made anew")
	if notes, err := deleted.Read(t.Context(), b.Client, "operator", "mirror"); err != nil || len(notes) > 0 {
		t.Errorf("the notes are %v, %v", notes, err)
	}
}

func TestADeletionWhileItIsLookedAt(t *testing.T) {
	b := newBench(t)
	was := state("shop", "db-0")
	b.put(was)
	b.before = func() { b.drop(was) } // the last one of that name goes now
	b.says("0 in the bucket, 0 made anew")
	for name, c := range b.all() {
		if c.DeletionTimestamp.IsZero() {
			t.Errorf("%s is there, and its state is not", name)
		}
	}
}

func TestWhatTheBucketHasNoMoreGoes(t *testing.T) {
	for name, test := range map[string]struct {
		claim *v1alpha1.CheckpointClaim
		goes  bool
	}{
		"nobody has it":          {nil, true},
		"a pod is restored":      {&v1alpha1.CheckpointClaim{PodUID: "p", PodName: "p", Node: "n", Phase: v1alpha1.ClaimClaimed}, false},
		"a pod was, and goes on": {&v1alpha1.CheckpointClaim{PodUID: "p", PodName: "p", Node: "n", Phase: v1alpha1.ClaimConsumed}, true},
	} {
		t.Run(name, func(t *testing.T) {
			own := state("shop", "own")
			own.Status.LocationName = "mirror" // whose state is not looked for here
			b := newBench(t, own)
			was := state("shop", "db-0")
			b.put(was)
			b.look()
			c := b.all()["shop/db-0-1234"]
			c.Status.Claim = test.claim
			if err := b.Client.Status().Update(t.Context(), &c); err != nil {
				t.Fatal(err)
			}
			b.drop(was)
			b.look()
			all := b.all()
			if mine := all["shop/own-1234"]; !mine.DeletionTimestamp.IsZero() || len(all) != 2 {
				t.Errorf("there are %v", all)
			}
			if c := all["shop/db-0-1234"]; c.DeletionTimestamp.IsZero() == test.goes {
				t.Errorf("it is %+v", c)
			}
		})
	}
}

func TestALookThatDoesNotComeToItsEndDeletesNothing(t *testing.T) {
	b := newBench(t)
	was := state("shop", "db-0")
	b.put(was)
	b.look()
	b.drop(was)
	for _, test := range []struct {
		err    error
		reason string
	}{{storage.ErrUnavailable, v1alpha1.LocationUnreachable}, {storage.ErrWrongRegion, v1alpha1.LocationWrongRegion}} {
		b.bucket.list = test.err
		got, again := b.look()
		if got.Reason != test.reason || got.Status != metav1.ConditionFalse || again != whileBad {
			t.Errorf("%v: it is %+v, the next look is after %s", test.err, got, again)
		}
	}
	if c := b.all()["shop/db-0-1234"]; !c.DeletionTimestamp.IsZero() || c.Name == "" {
		t.Errorf("it is %+v", c)
	}
	b.bucket.list = nil
	b.put(state("shop", "db-1"))
	b.bucket.get = storage.ErrUnavailable
	if got, _ := b.look(); got.Reason != v1alpha1.LocationUnreachable || len(b.all()) != 1 {
		t.Errorf("while nothing can be read it is %+v", got)
	}
}

func TestALocationIsSyncedWhenItIsTimeTo(t *testing.T) {
	b := newBench(t)
	request := ctrl.Request{NamespacedName: types.NamespacedName{Name: "mirror"}}
	b.says("0 in the bucket, 0 made anew")
	b.now = b.now.Add(4 * time.Minute)
	last := b.location().Status.LastSyncTime
	if result, err := b.Reconcile(t.Context(), request); err != nil || result.RequeueAfter != 6*time.Minute || !b.location().Status.LastSyncTime.Equal(last) {
		t.Errorf("after 4 of 10 minutes: %+v, %v", result, err)
	}
	location := b.location()
	location.Spec.SyncInterval, location.Generation = nil, 2
	if err := b.Client.Update(t.Context(), location); err != nil {
		t.Fatal(err)
	}
	result, err := b.Reconcile(t.Context(), request)
	if s := b.location().Status; err != nil || result.RequeueAfter != 0 || len(s.Conditions) > 0 || s.LastSyncTime != nil {
		t.Errorf("without an interval: %+v, %v; the status is %+v", result, err, s)
	}
	if err := b.Client.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "operator", Name: "bucket"}}); err != nil {
		t.Fatal(err)
	}
	location = b.location()
	location.Spec.SyncInterval = &metav1.Duration{Duration: time.Minute}
	if err := b.Client.Update(t.Context(), location); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.look(); got.Reason != v1alpha1.LocationCredentialsMissing || got.Message != "there is no Secret \"bucket\" in namespace \"operator\"" {
		t.Errorf("without credentials it is %+v", got)
	}
}

// Whoever can write to a bucket that is synced and not encrypted can have nodes restore what he put there.
func TestABucketThatIsTrustedIsSaidToBe(t *testing.T) {
	for encrypts, want := range map[bool]int{false: 1, true: 0} {
		b := newBench(t)
		if encrypts {
			location := &v1alpha1.CheckpointStorageLocation{}
			if err := b.Client.Get(t.Context(), client.ObjectKey{Name: "mirror"}, location); err != nil {
				t.Fatal(err)
			}
			location.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "keys", CurrentKey: "one"}
			if err := b.Client.Update(t.Context(), location); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 { // once
			b.look()
			b.now = b.now.Add(time.Hour)
		}
		said := 0
		for recorder := b.Recorder.(*events.FakeRecorder); len(recorder.Events) > 0; {
			if strings.Contains(<-recorder.Events, "Warning BucketIsTrusted") {
				said++
			}
		}
		if said != want {
			t.Errorf("where the location encrypts (%t) it is said %d times", encrypts, said)
		}
	}
}
