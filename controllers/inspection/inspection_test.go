package inspection

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// bench is a cluster with the location main, whose bucket is a folder.
type bench struct {
	t *testing.T
	Inspector
	client client.Client
	store  storage.Store
	last   map[string]image.Checkpoint // by lineage
}

func newBench(t *testing.T) *bench {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, last: map[string]image.Checkpoint{}}
	b.store = &shelf{objects: map[string]object{}}
	b.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "checkpoint-system", Name: "s3"}},
		&v1alpha1.CheckpointStorageLocation{
			ObjectMeta: metav1.ObjectMeta{Name: "main"},
			Spec:       v1alpha1.CheckpointStorageLocationSpec{Bucket: "states", Prefix: "a", Credentials: v1alpha1.LocationCredentials{SecretName: "s3"}},
		},
		&v1alpha1.CheckpointStorageLocation{
			ObjectMeta: metav1.ObjectMeta{Name: "other"},
			Spec:       v1alpha1.CheckpointStorageLocationSpec{Bucket: "more", Credentials: v1alpha1.LocationCredentials{SecretName: "lost"}},
		},
		&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-5c9d", UID: "set", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "web", Controller: new(true)},
		}}},
	).Build()
	b.Inspector = Inspector{Reader: b.client, Namespace: "checkpoint-system",
		Open: func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
			return b.store, nil
		}}
	return b
}

// save makes a Checkpoint of a pod of web, with its state, which shares what is the same with the one before.
func (b *bench) save(name string, content string, change ...func(*v1alpha1.Checkpoint)) *v1alpha1.Checkpoint {
	b.t.Helper()
	dir := b.t.TempDir()
	record := capture.Capture{State: capture.Complete, Pod: capture.Pod{Namespace: "shop", Name: name, UID: name + "-pod"},
		Containers: []capture.Container{{Name: "app", ID: "0123"}}}
	if err := record.Write(dir); err != nil {
		b.t.Fatal(err)
	}
	files := map[string]string{
		"containers/app/criu/inventory.img": content, "containers/app/criu/same.img": strings.Repeat("what stays the same. ", 9000) + string(noise()),
		"log/app/dump.log": "(00.1) all is well\n",
	}
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			b.t.Fatal(err)
		}
	}
	c := &v1alpha1.Checkpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name + "-uid")},
		Spec:       v1alpha1.CheckpointSpec{SourcePodName: name + "-pod", SourcePodUID: types.UID(name + "-0123")},
		Status: v1alpha1.CheckpointStatus{
			Source: &v1alpha1.CheckpointSource{PodUID: types.UID(name + "-0123"), Node: "worker-1", Lineage: "one",
				Owner: &v1alpha1.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5c9d", UID: "set"}},
			LocationName: "main",
		},
	}
	for _, f := range change {
		f(c)
	}
	folder := &image.Folder{Store: b.store, Name: keys.StorageFolder("shop", c.Status.Source.Lineage)}
	options := image.UploadOptions{}
	if last, is := b.last[folder.Name]; is {
		options.Bases = []image.Checkpoint{last}
	}
	made, err := folder.Upload(b.t.Context(), c.StorageName(), dir, options)
	if err != nil {
		b.t.Fatal(err)
	}
	c.Status.ManifestDigest = made.ManifestDigest
	b.last[folder.Name] = image.Checkpoint{Name: c.StorageName(), Digest: made.ManifestDigest}
	if err := b.client.Create(b.t.Context(), c); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// noise are bytes that cannot be compressed, always the same.
func noise() []byte {
	var data []byte
	for sum := sha256.Sum256([]byte("noise")); len(data) < 64<<10; sum = sha256.Sum256(sum[:]) {
		data = append(data, sum[:]...)
	}
	return data
}

// flip changes a byte of the first pack of a state.
func (b *bench) flip(c *v1alpha1.Checkpoint) {
	b.t.Helper()
	for info, err := range b.store.List(b.t.Context(), keys.StorageFolder("shop", c.Status.Source.Lineage)+"/packs/"+c.StorageName()+"/", "") {
		if err != nil {
			b.t.Fatal(err)
		}
		body, err := b.store.Get(b.t.Context(), info.Key, storage.Range{})
		if err != nil {
			b.t.Fatal(err)
		}
		data, err := io.ReadAll(body)
		data[len(data)/2] ^= 1
		if err := errors.Join(err, body.Close(), b.store.Put(b.t.Context(), info.Key, storage.Bytes(data), storage.PutOptions{})); err != nil {
			b.t.Fatal(err)
		}
		return
	}
	b.t.Fatalf("%s has no packs", c.Name)
}

func of(c *v1alpha1.Checkpoint) client.ObjectKey { return client.ObjectKeyFromObject(c) }

func TestVerifySaysWhatIsDamagedAndWhomThatConcerns(t *testing.T) {
	b := newBench(t)
	first := b.save("first", "one")
	second := b.save("second", "two", func(c *v1alpha1.Checkpoint) { c.Status.StorageName = "of-another-cluster" })
	whole, err := b.Verify(t.Context(), of(second), nil)
	if err != nil || len(whole.Damages) > 0 || whole.Files != 4 || whole.Stored == 0 {
		t.Fatalf("before: %+v, %v", whole, err)
	}
	b.flip(first)
	for c, other := range map[*v1alpha1.Checkpoint]string{first: "second", second: "first"} {
		got, err := b.Verify(t.Context(), of(c), nil)
		if err != nil || len(got.Damages) != 1 {
			t.Fatalf("%s: %+v, %v", c.Name, got, err)
		}
		d := got.Damages[0]
		if diff := cmp.Diff([][]string{{other}, {"containers/app/criu/same.img"}}, [][]string{d.SharedWith, d.Files}); diff != "" {
			t.Errorf("%s: shared with, files (-want +got):\n%s", c.Name, diff)
		}
		if !strings.HasPrefix(d.Object, "checkpoints/shop/one/packs/first-uid/") || d.Length == 0 || d.Problem == "" {
			t.Errorf("%s: the damage is %+v", c.Name, d)
		}
	}
	if err := b.store.Delete(t.Context(), "checkpoints/shop/one/manifests/first-uid"); err != nil {
		t.Fatal(err)
	}
	got, err := b.Verify(t.Context(), of(first), nil)
	if err != nil || len(got.Damages) != 1 || !strings.Contains(got.Damages[0].Problem, "it is not there") {
		t.Errorf("without its manifest: %+v, %v", got, err)
	}
}

func TestWhatNoBucketHasIsSaid(t *testing.T) {
	b := newBench(t)
	c := b.save("web", "one")
	update := func(change func(*v1alpha1.CheckpointStatus)) {
		change(&c.Status)
		if err := b.client.Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	says := func(want string) {
		t.Helper()
		if _, err := b.Verify(t.Context(), of(c), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, want %s", err, want)
		}
	}
	update(func(s *v1alpha1.CheckpointStatus) { s.LocationName = "other" })
	says(`there is no Secret "lost" in namespace "checkpoint-system"`)
	update(func(s *v1alpha1.CheckpointStatus) { s.ManifestDigest = "" })
	says("no bucket has its state: what there is of it is on node worker-1")
	update(func(s *v1alpha1.CheckpointStatus) {
		s.Volume = &v1alpha1.CheckpointVolume{Name: "data", Kind: v1alpha1.VolumeNFS, Source: "nas:/x", File: "f.tar.zst"}
	})
	says(`no bucket has its state: it is in volume "data" (NFS nas:/x), file f.tar.zst`)
	c.Name = "nobody"
	says(`there is no Checkpoint "nobody" in namespace "shop"`)
}

func TestUsageNamesWorkloadsAndWhatNobodyNames(t *testing.T) {
	b := newBench(t)
	b.save("first", "one")
	b.save("second", "two")
	gone := b.save("gone", "three", func(c *v1alpha1.Checkpoint) { c.Status.Source.Lineage, c.Status.Source.Owner = "plain", nil })
	if err := b.client.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Put(t.Context(), "diagnosis/shop/x.tar.gz", storage.Bytes([]byte("12345")), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := b.Usage(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := &inspect.Usage{Locations: []inspect.LocationUsage{
		{Name: "main", Bucket: "states", Prefix: "a", Logs: 5, Folders: []inspect.FolderUsage{
			{Namespace: "shop", Lineage: "plain", Objects: 3, Checkpoints: []inspect.CheckpointUsage{{StorageName: "gone-uid"}}},
			{Namespace: "shop", Lineage: "one", Workload: "Deployment/web", Objects: 6, Checkpoints: []inspect.CheckpointUsage{
				{Name: "second", StorageName: "second-uid"}, {Name: "first", StorageName: "first-uid"},
			}},
		}},
		{Name: "other", Bucket: "more", Problem: `storage location "other": there is no Secret "lost" in namespace "checkpoint-system"`},
	}}
	sizes := cmp.Options{
		cmpopts.IgnoreFields(inspect.FolderUsage{}, "Bytes", "Shared"), cmpopts.IgnoreFields(inspect.CheckpointUsage{}, "Stored", "Logical", "Own", "Shared"),
	}
	if diff := cmp.Diff(want, got, sizes); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	sum := int64(0)
	for info, err := range b.store.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size
	}
	if all := got.Locations[0].Bytes(); all != sum {
		t.Errorf("it counts %d bytes; the bucket has %d", all, sum)
	}
	if shared := got.Locations[0].Folders[1].Shared; shared < 64<<10 {
		t.Errorf("the two share %d bytes", shared)
	}
	if got, err = b.Usage(t.Context(), "bank"); err != nil || len(got.Locations[0].Folders) > 0 || got.Locations[0].Logs > 0 {
		t.Errorf("of another namespace: %+v, %v", got, err)
	}
}

func TestAnExportSaysWhatWasSent(t *testing.T) {
	b := newBench(t)
	c := b.save("web", "one")
	var archive bytes.Buffer
	sent, err := b.Export(t.Context(), of(c), "", &archive)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(archive.Bytes())
	if diff := cmp.Diff(inspect.Sent{Bytes: int64(archive.Len()), SHA256: hex.EncodeToString(sum[:])}, sent); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	found := map[string]bool{}
	for r := tar.NewReader(&archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = true
	}
	if !found["config.dump"] || !found["dump.log"] || !found["checkpoint/inventory.img"] {
		t.Errorf("the archive has %v", found)
	}
	if _, err := b.Export(t.Context(), of(c), "sidecar", io.Discard); err == nil || !strings.Contains(err.Error(), `it may be one of ["app"]`) {
		t.Errorf("another container: %v", err)
	}
}

// archiveOf is one as agents send it.
func archiveOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	packed := gzip.NewWriter(&out)
	archive := tar.NewWriter(packed)
	for name, text := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestLogsAreFoundWhereverABucketHasThem(t *testing.T) {
	b := newBench(t)
	stored := b.save("web", "one")
	failed := stored.DeepCopy()
	failed.ResourceVersion, failed.Name, failed.UID, failed.Status.ManifestDigest, failed.Status.LocationName = "", "failed", "failed-uid", "", ""
	failed.Status.Claim = &v1alpha1.CheckpointClaim{PodName: "web-new", PodUID: "abcdefghijk"}
	if err := b.client.Create(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"shop_web-pod_web-0123_1": "the dump", "shop_web-pod_web-0123_restore": "how it began", "shop_web-new_abcdefgh_restore": "the restore",
	} {
		archive := archiveOf(t, map[string]string{"log/app/criu.log": text, "capture.json": "{}"})
		if err := b.store.Put(t.Context(), "diagnosis/shop/"+name+".tar.gz", storage.Bytes(archive), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		of      *v1alpha1.Checkpoint
		restore bool
		want    []string
		looked  int
	}{
		"in the state":               {of: stored, want: []string{"(00.1) all is well\n"}},
		"of a capture that failed":   {of: failed, want: []string{"the dump"}, looked: 2}, // no state, and a location that cannot be opened
		"of a restore":               {of: failed, restore: true, want: []string{"the restore"}, looked: 1},
		"of a restore that was none": {of: stored, restore: true, looked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := b.Logs(t.Context(), of(test.of), test.restore)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, log := range l.Found {
				got = append(got, log.Text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" || len(l.Looked) != test.looked {
				t.Errorf("logs (-want +got):\n%s\nit looked in vain at %q", diff, l.Looked)
			}
		})
	}
}

func TestOfALongLogItsEndIsShown(t *testing.T) {
	text, err := end(strings.NewReader(strings.Repeat("x", 3*inspect.MostLog) + "end"))
	if err != nil || len(text) != inspect.MostLog || !strings.HasSuffix(text, "xend") {
		t.Errorf("it has %d bytes, %v", len(text), err)
	}
}
