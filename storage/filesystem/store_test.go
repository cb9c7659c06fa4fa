package filesystem_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

func open(t *testing.T, dir string) *filesystem.Store {
	t.Helper()
	store, err := filesystem.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// files returns the paths of all regular files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store {
		dir := t.TempDir()
		t.Cleanup(func() {
			for _, file := range files(t, dir) {
				if strings.HasPrefix(file, "partial/") {
					t.Errorf("%s was left behind", file)
				}
			}
		})
		return open(t, dir)
	})
}

func TestSymlinksDoNotLeadOut(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	store := open(t, dir)
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"folder": outside, "file": filepath.Join(outside, "secret")} {
		if err := os.Symlink(target, filepath.Join(dir, "objects", link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"folder/secret", "file"} {
		if r, err := store.Get(t.Context(), key, storage.Range{}); err == nil {
			t.Errorf("get %q leads out of the store", key)
			_ = r.Close()
		}
		if _, err := store.Stat(t.Context(), key); err == nil {
			t.Errorf("stat %q leads out of the store", key)
		}
	}
	if err := store.Put(t.Context(), "folder/new", storage.Bytes([]byte("x")), storage.PutOptions{}); err == nil {
		t.Error("put leads out of the store")
	}
	if diff := cmp.Diff([]string{"secret"}, files(t, outside)); diff != "" {
		t.Errorf("files outside (-want +got):\n%s", diff)
	}
}

func TestAKeyIsNotAFolder(t *testing.T) {
	t.Parallel()
	store := open(t, t.TempDir())
	put := func(key string) error {
		return store.Put(t.Context(), key, storage.Bytes([]byte("x")), storage.PutOptions{})
	}
	if err := errors.Join(put("object"), put("folder/object")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"object/below", "folder"} {
		if err := put(key); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("put %q: have the error %v, want %v", key, err, storage.ErrInvalid)
		}
	}
	if _, err := store.Stat(t.Context(), "object/below"); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("stat below an object: have the error %v, want %v", err, storage.ErrNotExist)
	}
}

func TestDeleteRemovesEmptyFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := open(t, dir)
	for _, key := range []string{"a/b/c/1", "a/2"} {
		if err := store.Put(t.Context(), key, storage.Bytes(nil), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Delete(t.Context(), "a/b/c/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "objects/a/b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty folder: have the error %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := os.Stat(filepath.Join(dir, "objects/a/2")); err != nil {
		t.Error(err)
	}
}

func TestRemovePartial(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := open(t, dir)
	if _, err := store.Begin(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "partial", "of-a-killed-process"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.RemovePartial(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if have := files(t, dir); len(have) != 2 {
		t.Errorf("after the removal of what is old: have %q, want the two files of now", have)
	}
	if err := store.RemovePartial(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if have := files(t, dir); len(have) != 0 {
		t.Errorf("after the removal of everything: have %q", have)
	}
}
