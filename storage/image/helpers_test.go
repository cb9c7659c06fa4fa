package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
)

const (
	testFolder = "checkpoints/default/lineage"
	testPage   = 4096
)

func openStore(t testing.TB) storage.Store {
	t.Helper()
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func folder(t testing.TB) *Folder {
	t.Helper()
	return &Folder{Store: openStore(t), Name: testFolder}
}

var testKeys = Keys{bytes.Repeat([]byte{1}, keySize), bytes.Repeat([]byte{2}, keySize)}

// folders are a plain and an encrypted one.
func folders(t *testing.T, do func(t *testing.T, f *Folder)) {
	for name, keys := range map[string]Keys{"plain": nil, "encrypted": testKeys} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := folder(t)
			f.Keys = keys
			do(t, f)
		})
	}
}

func noise(seed byte, n int) string {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // it never fails
	return string(data)
}

// file is what a test puts into a directory, or finds in it. A name that ends in a slash is a directory.
type file struct {
	mode fs.FileMode
	data string
}

var text = strings.Repeat("the same again and again; ", 20000)

var capture = map[string]file{
	"capture.json":                     {0o600, `{"state":"complete"}`},
	"containers/":                      {0o750, ""},
	"containers/a/":                    {0o700, ""},
	"containers/a/criu/":               {0o700, ""},
	"containers/a/criu/core-1.img":     {0o644, noise(2, 500)},
	"containers/a/criu/agent-is-fine":  {0o644, "it is not at the top"},
	"containers/a/criu/empty.img":      {0o400, ""},
	"containers/a/criu/pages-9.img":    {0o644, noise(1, 10*testPage)}, // without a map
	"containers/a/criu/pagemap-9.img":  {0o644, "it is no map"},
	"containers/a/rootfs.tar":          {0o444, noise(3, 9<<20)},
	"containers/a/zero-in-between.img": {0o600, noise(4, 4<<20) + strings.Repeat("\x00", 4<<20) + noise(5, 10)},
	"containers/a/text.img":            {fs.ModeSetuid | 0o755, text},
	"log/":                             {0o555, ""},
	"volumes/":                         {fs.ModeSticky | 0o777, ""},
}

func write(t testing.TB, dir string, files map[string]file) {
	t.Helper()
	for name, f := range files {
		path := filepath.Join(dir, name)
		made := path
		if !strings.HasSuffix(name, "/") {
			made = filepath.Dir(path)
		}
		if err := os.MkdirAll(made, 0o700); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "/") {
			if err := os.WriteFile(path, []byte(f.data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, f := range files { // whatever the umask
		if err := os.Chmod(filepath.Join(dir, name), f.mode); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, dir string) map[string]file {
	t.Helper()
	files := map[string]file{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		relative, mode := strings.TrimPrefix(name, dir+"/"), info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSticky)
		if d.IsDir() {
			files[relative+"/"] = file{mode: mode}
			return nil
		}
		data, err := os.ReadFile(name)
		files[relative] = file{mode, string(data)}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// expectFiles compares a directory with what it should be. Large contents are shown by their size alone.
func expectFiles(t testing.TB, dir string, want map[string]file) {
	t.Helper()
	shorten := func(files map[string]file) map[string]file {
		result := map[string]file{}
		for name, f := range files {
			if len(f.data) > 100 {
				f.data = fmt.Sprintf("%d bytes with the digest %s", len(f.data), digestOf([]byte(f.data)))
			}
			result[name] = f
		}
		return result
	}
	if diff := cmp.Diff(shorten(want), shorten(read(t, dir)), cmp.AllowUnexported(file{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", dir, diff)
	}
}

func source(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, capture)
	return dir
}

// process is memory: pages by their address.
type process map[uint64]string

// images returns CRIU's map and pages of a process, as files.
func (p process) images() map[string]file {
	var pages, entries bytes.Buffer
	entry := func(m proto.Message) {
		data, err := proto.Marshal(m)
		if err != nil {
			panic(err)
		}
		_ = binary.Write(&entries, binary.LittleEndian, uint32(len(data)))
		entries.Write(data)
	}
	_ = binary.Write(&entries, binary.LittleEndian, []uint32{commonMagic, pagemapMagic})
	entry(&pagemap.PagemapHead{PagesId: proto.Uint32(1)})
	for _, address := range slices.Sorted(maps.Keys(p)) {
		entry(&pagemap.PagemapEntry{
			Vaddr: proto.Uint64(address), CompatNrPages: proto.Uint32(0), NrPages: proto.Uint64(uint64(len(p[address]) / testPage)), Flags: proto.Uint32(inImage),
		})
		pages.WriteString(p[address])
	}
	return map[string]file{
		"containers/a/criu/pagemap-7.img": {0o600, entries.String()},
		"containers/a/criu/pages-1.img":   {0o600, pages.String()},
	}
}

func (p process) upload(t testing.TB, f *Folder, name string, bases ...Checkpoint) (Checkpoint, Summary) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, p.images())
	summary, err := f.Upload(t.Context(), name, dir, UploadOptions{Bases: bases})
	if err != nil {
		t.Fatal(err)
	}
	return Checkpoint{name, summary.ManifestDigest}, summary
}

func (p process) expect(t testing.TB, f *Folder, c Checkpoint) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "to")
	if _, err := f.Fetch(t.Context(), c, to, nil); err != nil {
		t.Fatal(err)
	}
	want := p.images()
	want["containers/"], want["containers/a/"], want["containers/a/criu/"] = file{0o700, ""}, file{0o700, ""}, file{0o700, ""}
	expectFiles(t, to, want)
}

func upload(t testing.TB, f *Folder, name, dir string) Checkpoint {
	t.Helper()
	summary, err := f.Upload(t.Context(), name, dir, UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return Checkpoint{name, summary.ManifestDigest}
}

func keys(t testing.TB, store storage.Store, prefix string) (all []string) {
	t.Helper()
	for info, err := range store.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Key)
	}
	return all
}

func expectNothing(t testing.TB, dir string) {
	t.Helper()
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there (%v), but it is not whole", dir, err)
	}
}
