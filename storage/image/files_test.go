package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
)

func openFiles(t *testing.T, f *Folder, c Checkpoint) fs.FS {
	t.Helper()
	opened, err := f.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return opened.Files(t.Context())
}

// readFS is what read is for a directory.
func readFS(t *testing.T, fsys fs.FS) map[string]file {
	t.Helper()
	all := map[string]file{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			all[name+"/"] = file{mode: info.Mode() &^ fs.ModeDir}
			return nil
		}
		data, err := fs.ReadFile(fsys, name)
		if info.Size() != int64(len(data)) {
			t.Errorf("%s has %d bytes, and says that it has %d", name, len(data), info.Size())
		}
		all[name] = file{info.Mode(), string(data)}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFiles(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		dir := source(t)
		write(t, dir, map[string]file{"containers/a/hole.img": {0o600, strings.Repeat("\x00", 3<<20) + "x" + strings.Repeat("\x00", 1<<20)}})
		want := read(t, dir)
		counting := &counting{Store: f.Store}
		c := upload(t, f, "a", dir)
		f.Store = counting
		fsys := openFiles(t, f, c)
		if diff := cmp.Diff(want, readFS(t, fsys), cmp.AllowUnexported(file{})); diff != "" {
			t.Errorf("files (-want +got):\n%.2000s", diff)
		}
		if counting.most[1] > 1 || counting.gets > 0 {
			t.Errorf("there were %d bodies open at once, and %d still are", counting.most[1], counting.gets)
		}
		names := slices.DeleteFunc(slices.Collect(maps.Keys(want)), func(name string) bool { return strings.HasSuffix(name, "/") })
		if err := fstest.TestFS(fsys, names...); err != nil {
			t.Error(err)
		}
	})
}

// TestFilesThatShare reads memory whose pages lie in frames of two checkpoints by turns.
func TestFilesThatShare(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		first := memory(1)
		first[0x100000000] = noise(3, 3000*testPage)
		base, _ := first.upload(t, f, "first")
		second := first.change(2, 2)
		c, summary := second.upload(t, f, "second", base)
		if summary.Shared == 0 {
			t.Fatal("it shares nothing")
		}
		got := readFS(t, openFiles(t, f, c))
		for name, want := range second.images() {
			if got[name].data != want.data {
				t.Errorf("%s is not what it was", name)
			}
		}
	})
}

func TestFilesAreReadInLargeRanges(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c := upload(t, f, "a", source(t))
	opened, err := f.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ranges := &ranging{Store: f.Store}
	opened.reader.Store = ranges
	if _, err := fs.ReadFile(opened.Files(t.Context()), "containers/a/rootfs.tar"); err != nil {
		t.Fatal(err)
	}
	if ranges.gets > 4 { // 9 MiB, in items of 4 MiB that lie in any order
		t.Errorf("9 MiB were read in %d ranges", ranges.gets)
	}
}

// ranging counts reads.
type ranging struct {
	storage.Store
	gets int
}

func (r *ranging) Get(ctx context.Context, key string, part storage.Range) (io.ReadCloser, error) {
	r.gets++
	return r.Store.Get(ctx, key, part)
}

func TestSeekInFiles(t *testing.T) {
	t.Parallel()
	f := folder(t)
	fsys := openFiles(t, f, upload(t, f, "a", source(t)))
	opened, err := fsys.Open("containers/a/rootfs.tar")
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	seeker, want := opened.(io.ReadSeeker), capture["containers/a/rootfs.tar"].data
	for _, at := range []int64{8 << 20, 100, 8<<20 + 100, 8 << 20, 0, int64(len(want)) - 5} {
		if _, err := seeker.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, min(300<<10, len(want)-int(at)))
		if _, err := io.ReadFull(seeker, got); err != nil || string(got) != want[at:][:len(got)] {
			t.Errorf("at byte %d it is not what it was (%v)", at, err)
		}
	}
	if n, err := seeker.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: have %d bytes and the error %v", n, err)
	}
	if _, err := seeker.Seek(-1, io.SeekStart); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("before the beginning: have the error %v, want %v", err, fs.ErrInvalid)
	}
}

func TestFilesThatAreWrong(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		fsys := openFiles(t, f, upload(t, f, "a", source(t)))
		if _, err := fsys.Open("containers/b"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is not there: have the error %v, want %v", err, fs.ErrNotExist)
		}
		if _, err := fsys.Open("../a"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("what leads out of it: have the error %v, want %v", err, fs.ErrInvalid)
		}
		for _, key := range keys(t, f.Store, f.key(packKind)) {
			damage(t, f, key)
		}
		for name, file := range capture {
			if strings.HasSuffix(name, "/") || file.data == "" {
				continue
			}
			if _, err := fs.ReadFile(fsys, name); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%s of a damaged pack: have the error %v, want %v", name, err, storage.ErrCorrupt)
			}
		}
	})
}

// damage turns every byte of an object around.
func damage(t *testing.T, f *Folder, key string) {
	t.Helper()
	data, err := f.get(t.Context(), key, MaxPack, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i] ^= 0xff
	}
	if err := f.Store.Put(t.Context(), key, storage.Bytes(data), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}
