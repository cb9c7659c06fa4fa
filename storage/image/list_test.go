package image

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
)

func TestListFindsTheCheckpointsOfAllFolders(t *testing.T) {
	t.Parallel()
	store, dir := openStore(t), t.TempDir()
	write(t, dir, capture)
	want := []string{"checkpoints/a/one/1", "checkpoints/a/one/2", "checkpoints/a/two/1", "checkpoints/manifests/packs/1"}
	for _, folder := range []string{"checkpoints/a/one", "checkpoints/a/two", "checkpoints/manifests/packs", "checkpoints-of-others/a/one"} {
		f := &Folder{Store: store, Name: folder}
		for _, name := range []string{"1", "2"} {
			if name == "2" && folder != "checkpoints/a/one" {
				continue
			}
			if _, err := f.Upload(t.Context(), name, dir, UploadOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	// An upload under way, and what others put beside.
	for _, key := range []string{"checkpoints/a/one/intents/3", "checkpoints/a/one/packs/3/x", "checkpoints/a/readme"} {
		if err := store.Put(t.Context(), key, storage.Bytes([]byte("{}")), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for c, err := range List(t.Context(), store, "checkpoints") {
		if err != nil {
			t.Fatal(err)
		}
		if c.Size == 0 || c.Modified.IsZero() {
			t.Errorf("of %s it says %+v", c.Folder, c)
		}
		got = append(got, c.Folder+"/"+c.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("checkpoints (-want +got):\n%s", diff)
	}
	for c, err := range List(t.Context(), store, "checkpoints") { // whoever has enough ends it
		if c.Name != "1" || err != nil {
			t.Errorf("it goes on with %+v, %v", c, err)
		}
		break
	}
}

func TestWhatIsFoundCanBeReadFileByFile(t *testing.T) {
	folders(t, func(t *testing.T, f *Folder) {
		dir := t.TempDir()
		write(t, dir, capture)
		made, err := f.Upload(t.Context(), "1", dir, UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		opened, err := f.Discover(t.Context(), "1")
		if err != nil {
			t.Fatal(err)
		}
		if want := (Checkpoint{"1", made.ManifestDigest}); opened.Checkpoint != want || opened.Bytes != made.Bytes {
			t.Errorf("it is %+v with %d bytes; it has to be %+v with %d", opened.Checkpoint, opened.Bytes, want, made.Bytes)
		}
		for name, want := range capture {
			if name[len(name)-1] == '/' {
				continue
			}
			got, err := opened.ReadFile(t.Context(), name, int64(len(want.data)))
			if err != nil || !bytes.Equal(got, []byte(want.data)) {
				t.Errorf("%s has %d bytes, not the %d that were written, or not those: %v", name, len(got), len(want.data), err)
			}
		}
		for name, want := range map[string]error{"nothing": storage.ErrNotExist, "log": storage.ErrNotExist, "containers/a/rootfs.tar": storage.ErrInvalid} {
			if _, err := opened.ReadFile(t.Context(), name, 1<<20); !errors.Is(err, want) {
				t.Errorf("%s: have the error %v, want %v", name, err, want)
			}
		}
		if _, err := f.Discover(t.Context(), "2"); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("one that is not there: have the error %v", err)
		}
	})
}

// Who can write to the bucket, and has no key, could put a checkpoint of his own there.
func TestWithKeysOnlyWhatIsEncryptedIsDiscovered(t *testing.T) {
	t.Parallel()
	f, dir := folder(t), t.TempDir()
	write(t, dir, map[string]file{"capture.json": {0o600, "{}"}})
	if _, err := f.Upload(t.Context(), "1", dir, UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	f.Keys = testKeys
	if _, err := f.Discover(t.Context(), "1"); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("have the error %v, want %v", err, storage.ErrCorrupt)
	}
}

func TestADamagedManifestIsListedAndNotOpened(t *testing.T) {
	folders(t, func(t *testing.T, f *Folder) {
		dir := t.TempDir()
		write(t, dir, map[string]file{"capture.json": {0o600, "{}"}})
		if _, err := f.Upload(t.Context(), "1", dir, UploadOptions{}); err != nil {
			t.Fatal(err)
		}
		key := f.key(manifestKind, "1")
		data, err := f.get(t.Context(), key, maxManifestSize, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, damaged := range map[string][]byte{
			"empty":         nil,
			"cut off":       data[:len(data)-1],
			"a flipped bit": append(append([]byte(nil), data[:len(data)-1]...), data[len(data)-1]^1),
		} {
			if err := f.Store.Put(t.Context(), key, storage.Bytes(damaged), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Discover(t.Context(), "1"); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%s: have the error %v, want %v", name, err, storage.ErrCorrupt)
			}
		}
		found := 0
		for _, err := range List(t.Context(), f.Store, "checkpoints") {
			if err != nil {
				t.Fatal(err)
			}
			found++
		}
		if found != 1 {
			t.Errorf("%d are found", found)
		}
	})
}
