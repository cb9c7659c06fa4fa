package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestASwappedFolderIsKeptOrComesBack(t *testing.T) {
	needsRoot(t)
	captured, dir := t.TempDir(), t.TempDir()
	for path, content := range map[string]string{
		filepath.Join(captured, "new"): "captured", filepath.Join(dir, "old"): "former", filepath.Join(dir, "new"): "other",
	} {
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(captured, 0o711); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "a.tar")
	if err := saveTree(t.Context(), captured, "", archive); err != nil {
		t.Fatal(err)
	}
	before := describe(t, dir)
	if err := swap(t.Context(), dir, archive); err != nil {
		t.Fatal(err)
	}
	if err := undo(dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, describe(t, dir)); diff != "" {
		t.Errorf("undone (-want +got)\n%s", diff)
	}
	if err := swap(t.Context(), dir, archive); err != nil {
		t.Fatal(err)
	}
	if err := keep(dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(describe(t, captured), describe(t, dir)); diff != "" {
		t.Errorf("kept (-want +got)\n%s", diff)
	}
}

func TestAFolderThatWasNotSwappedStays(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := describe(t, dir)
	if err := undo(dir); err != nil {
		t.Fatal(err)
	}
	if err := keep(dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, describe(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A pod can make anything in its own volume before it is restored; nothing outside may move by that.
func TestALinkInAVolumeIsNotFollowed(t *testing.T) {
	needsRoot(t)
	captured, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "a.tar")
	if err := saveTree(t.Context(), captured, "", archive); err != nil {
		t.Fatal(err)
	}
	before := describe(t, outside)
	for _, name := range ownFolders {
		dir := t.TempDir()
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := undo(dir); err != nil {
			t.Error(err)
		}
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := swap(t.Context(), dir, archive); err != nil {
			t.Error(err)
		}
		if err := undo(dir); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, describe(t, outside)); diff != "" {
			t.Errorf("%s: outside (-want +got)\n%s", name, diff)
		}
	}
}
