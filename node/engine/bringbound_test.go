package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// compressedFolders is a compressed tar with so many entries, which are all the same folder.
func compressedFolders(t *testing.T, entries int) io.Reader {
	t.Helper()
	var all bytes.Buffer
	compressed, err := zstd.NewWriter(&all)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(compressed)
	for range entries {
		if err := archive.WriteHeader(&tar.Header{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o700}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
		t.Fatal(err)
	}
	return &all
}

// What is in a volume is anybody's, and is unpacked before it is known to be what was written.
func TestAStateInAVolumeIsBoundedInItsEntries(t *testing.T) {
	needsRoot(t)
	tooMany := fmt.Sprintf("has more than %d ", mostEntries)
	if err := unpackTree(t.Context(), compressedFolders(t, mostEntries), 1<<30, t.TempDir()); err != nil {
		t.Errorf("of as many as may be: %v", err)
	}
	if err := unpackTree(t.Context(), compressedFolders(t, mostEntries+1), 1<<30, t.TempDir()); err == nil || !strings.Contains(err.Error(), tooMany) {
		t.Errorf("of more than may be: %v", err)
	}
	dir := t.TempDir() // which is an entry as well
	write(t, filepath.Join(dir, "1"), "one file")
	for n := 2; n < mostEntries; n++ {
		if err := os.Link(filepath.Join(dir, "1"), filepath.Join(dir, strconv.Itoa(n))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pack(t.Context(), io.Discard, dir); err != nil {
		t.Errorf("what could be unpacked is not packed: %v", err)
	}
	write(t, filepath.Join(dir, "one-more"), "")
	if _, err := pack(t.Context(), io.Discard, dir); err == nil || !strings.Contains(err.Error(), tooMany) {
		t.Errorf("what could not be unpacked is packed: %v", err)
	}
}
