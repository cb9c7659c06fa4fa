package image

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
)

// The golden files are checkpoints as a version of this package has written them, in the layout of storage/filesystem. Whatever becomes of the package,
// it has to read them. They are never written again: a format that changes gets a directory of its own.
//
//	go test ./storage/image -run TestGolden -update testdata/golden-3
//
// makes one, and prints what belongs into the table.
var update = flag.String("update", "", "make golden files in this `directory`")

// goldens are the digests of the manifests, by directory and checkpoint; the name of a checkpoint is that of its folder and its own.
var goldens = map[string]map[string]string{
	"testdata/golden-2": {
		"plain/first":      "sha256:54b51cdfd1899656dc0d0a4e9864475138fa153c1f6e88c2a346cc2ad0b7aaa3",
		"plain/second":     "sha256:bc5d1004f824aeb8965c001f5373126733d9d90ba61df55c5c565ac5075a915e",
		"encrypted/first":  "sha256:cb479603100860126b59b7d7ab8fdbf8e440d5d747ca2f2ee6226ef72a8cfc91",
		"encrypted/second": "sha256:62c43d3ec2e6be8a232a8d6fb63bbfad6adeb5f98977b464b3e20800dfb5319a",
	},
}

var goldenTime = time.Unix(1234567890, 123456789)

const (
	goldenPagemap = "containers/a/criu/pagemap-7.img"
)

// goldenProcess is the memory of a checkpoint, which the second one shares for the most part.
func goldenProcess(name string) process {
	p := process{0x10000: noise(1, 3*testPage), 0x7f0000000000: noise(2, 2*testPage) + strings.Repeat("\x00", testPage), 0x7ffff0000000: text[:2*testPage]}
	if name == "second" {
		p[0x5000] = noise(3, testPage) // all that comes behind it moves within the file
		p[0x10000] = noise(1, testPage) + noise(4, testPage) + noise(1, 3*testPage)[2*testPage:]
	}
	return p
}

// goldenFiles are all files of a checkpoint.
func goldenFiles(name string) map[string]file {
	files := goldenProcess(name).images()
	for path, f := range map[string]file{
		"capture.json":           {0o600, fmt.Sprintf(`{"name":%q}`, name)},
		"containers/":            {0o750, ""},
		"containers/a/":          {0o700, ""},
		"containers/a/criu/":     {0o700, ""},
		"containers/a/empty.img": {0o400, ""},
		"containers/a/hole.img":  {0o640, noise(5, 5000) + strings.Repeat("\x00", 5<<20) + "at the end"},
		"containers/a/text.img":  {fs.ModeSetuid | 0o755, text[:100_000]},
		"containers/a/noise.tar": {0o444, noise(6, 20_000)},
		"log/":                   {0o555, ""},
		"volumes/":               {fs.ModeSticky | 0o777, ""},
	} {
		files[path] = f
	}
	return files
}

// goldenFolders are a plain and an encrypted one, in one store.
func goldenFolders(t *testing.T, dir string) map[string]*Folder {
	t.Helper()
	store, err := filesystem.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return map[string]*Folder{"plain": {Store: store, Name: "golden/plain"}, "encrypted": {Store: store, Name: "golden/encrypted", Keys: testKeys}}
}

// TestGoldenMake makes golden files, if it is asked to.
func TestGoldenMake(t *testing.T) {
	if *update == "" {
		t.Skip("the golden files are there")
	}
	if err := os.MkdirAll(*update, 0o700); err != nil {
		t.Fatal(err)
	}
	for of, f := range goldenFolders(t, *update) {
		var bases []Checkpoint
		for _, name := range []string{"first", "second"} {
			dir := t.TempDir()
			write(t, dir, goldenFiles(name))
			path := filepath.Join(dir, "capture.json")
			if err := os.Chtimes(path, goldenTime, goldenTime); err != nil {
				t.Fatal(err)
			}
			summary, err := f.Upload(t.Context(), name, dir, UploadOptions{Bases: bases})
			if err != nil {
				t.Fatal(err)
			}
			bases = []Checkpoint{{name, summary.ManifestDigest}}
			fmt.Printf("\t\t%q: %q,\n", of+"/"+name, summary.ManifestDigest)
		}
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for dir, digests := range goldens {
		copied := t.TempDir() // a store makes folders in its directory
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		for of, f := range goldenFolders(t, copied) {
			t.Run(filepath.Base(dir)+"/"+of, func(t *testing.T) {
				first, second := Checkpoint{"first", digests[of+"/first"]}, Checkpoint{"second", digests[of+"/second"]}
				expectGolden(t, f, first)
				expectGolden(t, f, second)
				expectGoldenSpace(t, f)
				expectGoldenBase(t, f, second)
				if err := f.Delete(t.Context(), "first"); err != nil {
					t.Fatal(err)
				}
				expectGolden(t, f, second) // which needs what the first has written
			})
		}
	}
}

// expectGolden reads a checkpoint in all ways.
func expectGolden(t *testing.T, f *Folder, c Checkpoint) {
	t.Helper()
	want := goldenFiles(c.Name)
	summary, err := f.Verify(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	size, files := int64(0), 0
	for name, f := range want {
		if size += int64(len(f.data)); !strings.HasSuffix(name, "/") {
			files++
		}
	}
	if summary.Bytes != size || summary.Files != files || summary.Sent == 0 {
		t.Errorf("%s: it has %+v; want %d files with %d bytes", c.Name, summary, files, size)
	}
	to := filepath.Join(t.TempDir(), "to")
	if _, err := f.Fetch(t.Context(), c, to, nil); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, to, want)
	if info, err := os.Stat(filepath.Join(to, "capture.json")); err != nil || !info.ModTime().Equal(goldenTime) {
		t.Errorf("%s: its time is %v (%v), want %v", c.Name, info.ModTime(), err, goldenTime)
	}
	open, err := f.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for start, pages := range goldenProcess(c.Name) {
		for at := 0; at < len(pages); at += testPage {
			page, err := open.Page(t.Context(), goldenPagemap, start+uint64(at))
			if err != nil || string(page) != pages[at:at+testPage] {
				t.Errorf("%s: page at %#x: %v, or another content", c.Name, start+uint64(at), err)
			}
		}
		if _, err := open.Page(t.Context(), goldenPagemap, start+uint64(len(pages))); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: page behind %#x: have the error %v, want %v", c.Name, start, err, storage.ErrNotExist)
		}
	}
}

func expectGoldenSpace(t *testing.T, f *Folder) {
	t.Helper()
	got := spaceOf(t, f)
	for i, name := range []string{"first", "second"} {
		taken, logical := got.Checkpoints[i], int64(0)
		for _, f := range goldenFiles(name) {
			logical += int64(len(f.data))
		}
		// What cannot be compressed is 5 pages, a hole's beginning, and noise.tar; the second shares all of it but for what is new: 2 pages.
		least, most := int64(5*testPage+25_000), int64(9*testPage+25_000)
		if taken.Name != name || taken.Logical != logical || taken.Shared < least || taken.Shared > most {
			t.Errorf("%s has %d bytes and takes %+v; want %d to %d shared", name, logical, taken, least, most)
		}
	}
	if sum := got.Checkpoints[0].Own + got.Checkpoints[1].Own + got.Shared; got.Bytes != sum || got.Unnamed+got.Uploading > 0 {
		t.Errorf("it takes %+v; the checkpoints have %d bytes of that", got, sum)
	}
}

// expectGoldenBase sees that an upload finds what is there by the index: all of it.
func expectGoldenBase(t *testing.T, f *Folder, base Checkpoint) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, goldenFiles(base.Name))
	summary, err := f.Upload(t.Context(), "third", dir, UploadOptions{Bases: []Checkpoint{base}})
	if err != nil {
		t.Fatal(err)
	}
	if summary.Sent > 0 {
		t.Errorf("what is the same as %s sends %d bytes", base.Name, summary.Sent)
	}
	if err := f.Delete(t.Context(), "third"); err != nil {
		t.Fatal(err)
	}
}
