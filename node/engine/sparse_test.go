package engine

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestHolesCostNothingAndComeBack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	create := func(name string, size int64, islands ...int64) {
		t.Helper()
		file, err := os.Create(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for _, island := range islands {
			if _, err := file.WriteAt([]byte("island"), island); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.Truncate(size); err != nil {
			t.Fatal(err)
		}
	}
	create("sparse", 1<<30, 0, 500<<20+7, 1<<30-6)
	create("hole", 1<<30)
	create("tail", 5, 0)
	archive := filepath.Join(t.TempDir(), "tree.tar")
	if err := saveTree(t.Context(), from, "", archive); err != nil {
		t.Fatal(err)
	}
	if err := loadTree(t.Context(), archive, to); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sparse", "hole", "tail"} {
		was, err := extentsIn(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		is, err := extentsIn(filepath.Join(to, name))
		if diff := cmp.Diff(was, is); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", name, err, diff)
		}
	}
	estimate, err := treeSize(from)
	if err != nil || estimate > 64<<10 {
		t.Errorf("the estimate is %d, %v", estimate, err)
	}
	var small bytes.Buffer
	if err := writeTree(t.Context(), &small, from, ""); err != nil || small.Len() > 64<<10 {
		t.Errorf("the archive has %d bytes, %v", small.Len(), err)
	}
}

func extentsIn(path string) ([]extent, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return extentsOf(int(file.Fd()), info.Size())
}

func TestOfTooManyHolesTheSmallestGo(t *testing.T) {
	var parts []extent
	for i := range int64(capture.MaxExtents) {
		parts = append(parts, extent{Offset: i << 20, Length: 4096}, extent{Offset: i<<20 + 12288, Length: 4096})
	}
	got := bounded(parts)
	if len(got) != capture.MaxExtents || got[1] != (extent{Offset: 1 << 20, Length: 16384}) {
		t.Errorf("it has %d parts, the second is %v", len(got), got[1])
	}
	if record := capture.SparseMap(1<<40, got); len(record) > 1<<20-maxAttributes {
		t.Errorf("the record has %d bytes", len(record))
	}
}

func TestAHostileMapOfHolesIsRefused(t *testing.T) {
	for what, test := range map[string]struct{ record, want string }{
		"nothing":                   {"", `it may have numbers from 0 on`},
		"an even number":            {"10 0", "an odd number"},
		"a word":                    {"10 0 x", `has "x"; it may have numbers`},
		"a negative number":         {"10 -1 5", `has "-1"`},
		"a part behind the end":     {"10 8 5", "a part at 8 of 5 bytes; it may lie between 0 and 10"},
		"parts that overlap":        {"10 0 3 2 2", "a part at 2 of 2 bytes; it may lie between 3 and 10"},
		"parts out of order":        {"10 5 3 0 2", "a part at 0 of 2 bytes"},
		"a sum that flows over":     {"9223372036854775807 9223372036854775807 5", "a part at"},
		"more than the entry has":   {"100 0 6", "parts of 6 bytes; the entry has 5"},
		"less than the entry has":   {"100 0 4", "parts of 4 bytes; the entry has 5"},
		"a number beyond all":       {"99999999999999999999 0 5", "numbers from 0 on"},
		"more parts than there are": {"5" + strings.Repeat(" 0 0", capture.MaxExtents+1), "an odd number of up to"},
		"a size beyond all disks":   {strconv.FormatInt(1<<62, 10) + " 0 5", "file too large"},
	} {
		t.Run(what, func(t *testing.T) {
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			header := &tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 5, Format: tar.FormatPAX, PAXRecords: map[string]string{capture.SparseRecord: test.record}}
			if test.record == "" {
				header.PAXRecords[capture.SparseRecord] = " "
			}
			if err := w.WriteHeader(header); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("12345")); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			err := readInto(&archive, t.TempDir())
			if err == nil || test.record != "" && !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v, which lacks %q", err, test.want)
			}
		})
	}
}

func FuzzParseSparse(f *testing.F) {
	for _, seed := range []string{"0", "10 0 5", "1073741824 0 4096 524288000 4096", "10 9 1", "5 0 5 0 0"} {
		f.Add(seed, int64(5))
	}
	f.Fuzz(func(t *testing.T, record string, has int64) {
		size, parts, err := capture.ParseSparse(record, has)
		if err != nil {
			return
		}
		end := int64(0)
		for _, part := range parts {
			if part.Offset < end || part.Length < 0 || part.Offset+part.Length > size {
				t.Errorf("%q gives %v of %d", record, parts, size)
			}
			end = part.Offset + part.Length
		}
		if lengthOf(parts) != has {
			t.Errorf("%q gives %d bytes of %d", record, lengthOf(parts), has)
		}
	})
}

// What an overlay keeps apart, attributes above and content below, is captured as one.
func TestAnOverlaysContentIsFoundInItsLowerLayer(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work", "merged", "back"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("lower/file"), []byte("from below"), 0o600); err != nil {
		t.Fatal(err)
	}
	options := "metacopy=on,lowerdir=" + at("lower") + ",upperdir=" + at("upper") + ",workdir=" + at("work")
	if err := unix.Mount("overlay", at("merged"), "overlay", 0, options); err != nil {
		t.Skip("no overlay can be mounted here:", err)
	}
	defer func() { _ = unix.Unmount(at("merged"), 0) }()
	if err := os.Chmod(at("merged/file"), 0o644); err != nil {
		t.Fatal(err)
	}
	if names, err := attributes(at("merged")).read(); err != nil || len(names) > 0 { // which the overlay counts, and hides
		t.Errorf("the overlay has the attributes %v, %v", names, err)
	}
	if err := saveTree(t.Context(), at("upper"), at("merged"), at("tar")); err != nil {
		t.Fatal(err)
	}
	if err := loadTree(t.Context(), at("tar"), at("back")); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(at("back/file")); err != nil || string(content) != "from below" {
		t.Errorf("it holds %q, %v", content, err)
	}
	if names, err := attributes(at("back/file")).read(); err != nil || len(names) > 0 {
		t.Errorf("it has the attributes %v, %v", names, err)
	}
}
