package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
)

const (
	testPrefix = "checkpoints/default/1234"
	testChunk  = 8192 // bytes, a multiple of a file system's blocks, so that holes are seen
)

var small = Options{chunkSize: testChunk}

func openStore(t testing.TB) storage.Store {
	t.Helper()
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
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

var text = strings.Repeat("the same again and again; ", 2*testChunk/26)

var capture = map[string]file{
	"capture.json":                     {0o600, `{"state":"complete"}`},
	"containers/":                      {0o750, ""},
	"containers/a/":                    {0o700, ""},
	"containers/a/criu/":               {0o700, ""},
	"containers/a/criu/pages-1.img":    {0o644, noise(1, 10*testChunk+123)},
	"containers/a/criu/core-1.img":     {0o644, noise(2, 500)},
	"containers/a/criu/agent-is-fine":  {0o644, "it is not at the top"},
	"containers/a/criu/empty.img":      {0o400, ""},
	"containers/a/rootfs.tar":          {0o444, noise(3, 2*testChunk)},
	"containers/a/the-same-again.tar":  {0o444, noise(3, 2*testChunk)},
	"containers/a/zero-in-between.img": {0o600, noise(4, testChunk) + strings.Repeat("\x00", 3*testChunk) + noise(5, 10)},
	"containers/a/text.img":            {0o600, text},
	"log/":                             {0o555, ""},
	"volumes/":                         {0o700, ""},
}

func write(t testing.TB, dir string, files map[string]file) {
	t.Helper()
	for name := range files {
		folder := filepath.Join(dir, name)
		if !strings.HasSuffix(name, "/") {
			folder = filepath.Dir(folder)
		}
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range files {
		if !strings.HasSuffix(name, "/") {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(f.data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(filepath.Join(dir, name), f.mode); err != nil { // whatever the umask
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
		relative := strings.TrimPrefix(name, dir+"/")
		if d.IsDir() {
			files[relative+"/"] = file{mode: info.Mode().Perm()}
			return nil
		}
		data, err := os.ReadFile(name)
		files[relative] = file{info.Mode(), string(data)}
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
				f.data = fmt.Sprintf("%d bytes with the digest %s", len(f.data), hexDigest([]byte(f.data)))
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

func upload(t testing.TB, store storage.Store, dir string) Summary {
	t.Helper()
	summary, err := Upload(t.Context(), store, testPrefix, dir, small)
	if err != nil {
		t.Fatal(err)
	}
	return summary
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

func TestADirectoryComesBackAsItWas(t *testing.T) {
	t.Parallel()
	store, from, to := openStore(t), source(t), filepath.Join(t.TempDir(), "to")
	write(t, from, map[string]file{"agent.json": {0o600, "a note"}, "agent-notes/": {0o700, ""}, "agent-notes/more": {0o600, "another"}})
	var done []int64
	opts := small
	opts.Progress = func(d, total int64) { done = append(done, d, total) }
	sent, err := Upload(t.Context(), store, testPrefix, from, opts)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, f := range capture {
		size += int64(len(f.data))
	}
	// What is sent is neither the zeros, nor what is there twice, nor what can be compressed away.
	noise, text := size-5*testChunk-int64(len(text)), int64(200)
	if sent.Sent <= noise || sent.Sent > noise+text {
		t.Errorf("it sends %d bytes; it has to send %d and some", sent.Sent, noise)
	}
	want := Summary{ManifestDigest: sent.ManifestDigest, Files: 9, Bytes: size, Sent: sent.Sent}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("summary of the upload (-want +got):\n%s", diff)
	}
	if n := len(done); n < 2 || done[n-2] != size || done[n-1] != size {
		t.Errorf("progress ends with %v; it has to end with all %d bytes", done, size)
	}
	got, err := Fetch(t.Context(), store, testPrefix, sent.ManifestDigest, to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want.Sent += 2 * testChunk // it asks twice for what is there twice
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summary of the fetch (-want +got):\n%s", diff)
	}
	expectFiles(t, to, capture)
	expectNothing(t, to+PartialSuffix)
}

func TestHolesCostNothing(t *testing.T) {
	t.Parallel()
	store, from, to := openStore(t), t.TempDir(), filepath.Join(t.TempDir(), "to")
	const size = 1 << 33 // 8 GiB
	sparse, err := os.Create(filepath.Join(from, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = sparse.WriteAt([]byte("in the middle"), size/2)
	if err = errors.Join(err, sparse.Truncate(size), sparse.Close()); err != nil {
		t.Fatal(err)
	}
	sent, err := Upload(t.Context(), store, testPrefix, from, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := Summary{ManifestDigest: sent.ManifestDigest, Files: 1, Bytes: size, Sent: sent.Sent}
	if sent.Sent > ChunkSize/100 {
		t.Errorf("it sends %d bytes", sent.Sent)
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if _, err := Fetch(t.Context(), store, testPrefix, sent.ManifestDigest, to, Options{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(to, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != size || used > 2*ChunkSize {
		t.Errorf("it has %d bytes and takes %d; it has to have %d and take about %d", info.Size(), used, int64(size), ChunkSize)
	}
}

func TestWhatIsNoFileIsNotUploaded(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(path string) error{
		"a symlink":                  func(path string) error { return os.Symlink("capture.json", path) },
		"a symlink out of it":        func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a named pipe":               func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"a name that is not UTF-8":   func(path string) error { return os.WriteFile(path+"\xff", nil, 0o600) },
		"a name with line feeds":     func(path string) error { return os.WriteFile(path+"\n", nil, 0o600) },
		"a folder with a named pipe": func(path string) error { return errors.Join(os.Mkdir(path, 0o700), syscall.Mkfifo(path+"/p", 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, from := openStore(t), source(t)
			if err := make(filepath.Join(from, "x")); err != nil {
				t.Fatal(err)
			}
			if _, err := Upload(t.Context(), store, testPrefix, from, small); !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("have the error %v, want %v", err, storage.ErrInvalid)
			}
			if got := keys(t, store, ""); len(got) > 0 {
				t.Errorf("it stored %q", got)
			}
		})
	}
}

// watched counts the chunks that are put and read, and cancels after some.
type watched struct {
	storage.Store
	mu     sync.Mutex
	puts   map[string]int
	gets   map[string]int
	after  int // chunks, then cancel
	cancel func()
}

func watch(store storage.Store, after int, cancel func()) *watched {
	return &watched{Store: store, puts: map[string]int{}, gets: map[string]int{}, after: after, cancel: cancel}
}

func (w *watched) note(counts map[string]int, key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.Contains(key, "/"+dataFolder+"/") {
		if counts[key]++; len(counts) == w.after {
			w.cancel()
		}
	}
}

func (w *watched) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	err := w.Store.Put(ctx, key, body, opts)
	if err == nil {
		w.note(w.puts, key)
	}
	return err
}

func (w *watched) Get(ctx context.Context, key string, r storage.Range) (body io.ReadCloser, err error) {
	body, err = w.Store.Get(ctx, key, r)
	if err == nil {
		w.note(w.gets, key)
	}
	return body, err
}

func TestAnUploadGoesOn(t *testing.T) {
	t.Parallel()
	store, from := openStore(t), source(t)
	ctx, cancel := context.WithCancel(t.Context())
	first := watch(store, 5, cancel)
	if _, err := Upload(ctx, first, testPrefix, from, small); !errors.Is(err, context.Canceled) {
		t.Fatalf("have the error %v, want %v", err, context.Canceled)
	}
	if _, err := store.Stat(t.Context(), testPrefix+"/"+manifestName); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("the manifest: have the error %v, want %v", err, storage.ErrNotExist)
	}
	// One of them is cut short, as no store should do; its content is not right.
	cut := keys(t, store, testPrefix+"/data/")[0]
	if err := store.Put(t.Context(), cut, storage.Bytes([]byte("x")), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	second := watch(store, 0, nil)
	summary, err := Upload(t.Context(), second, testPrefix, from, small)
	if err != nil {
		t.Fatal(err)
	}
	for key := range first.puts {
		if second.puts[key] > 0 && key != cut {
			t.Errorf("%s is sent again", key)
		}
	}
	if second.puts[cut] != 1 {
		t.Errorf("%s, which is not right, is sent %d times", cut, second.puts[cut])
	}
	third := watch(store, 0, nil)
	again, err := Upload(t.Context(), third, testPrefix, from, small)
	if err != nil || again.Sent != 0 || len(third.puts) > 0 || again.ManifestDigest != summary.ManifestDigest {
		t.Errorf("another upload: %+v, %v; it has to send nothing and find the digest %s", again, err, summary.ManifestDigest)
	}
	to := filepath.Join(t.TempDir(), "to")
	if _, err := Fetch(t.Context(), store, testPrefix, summary.ManifestDigest, to, small); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, to, capture)
}

func TestAFetchGoesOn(t *testing.T) {
	t.Parallel()
	store, to := openStore(t), filepath.Join(t.TempDir(), "to")
	summary := upload(t, store, source(t))
	ctx, cancel := context.WithCancel(t.Context())
	opts := small
	opts.Parallel = 1
	chunks := 0
	opts.Progress = func(int64, int64) {
		if chunks++; chunks == 8 {
			cancel()
		}
	}
	if _, err := Fetch(ctx, store, testPrefix, summary.ManifestDigest, to, opts); !errors.Is(err, context.Canceled) {
		t.Fatalf("have the error %v, want %v", err, context.Canceled)
	}
	expectNothing(t, to)
	// What else may lie there: the rest of another checkpoint, a torn write, links that lead out of it.
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, to+PartialSuffix, map[string]file{
		"other/": {0o700, ""}, "other/file": {0o600, "x"}, "containers/a/zero-in-between.img": {0o400, noise(9, 6*testChunk)},
		"containers/a/rootfs.tar/": {0o700, ""},
	})
	core := filepath.Join(to+PartialSuffix, "containers/a/criu/core-1.img")
	if err := errors.Join(os.RemoveAll(core), os.Symlink(outside, core)); err != nil {
		t.Fatal(err)
	}
	second, err := Fetch(t.Context(), store, testPrefix, summary.ManifestDigest, to, small)
	if err != nil {
		t.Fatal(err)
	}
	if all := second.Bytes - 3*testChunk; second.Sent == 0 || second.Sent > all-5*testChunk {
		t.Errorf("it reads %d bytes of %d again, as if nothing had been there", second.Sent, all)
	}
	expectFiles(t, to, capture)
	expectNothing(t, outside)
}

func TestWhatIsThereAlreadyIsCompared(t *testing.T) {
	t.Parallel()
	store, to := openStore(t), filepath.Join(t.TempDir(), "to")
	summary := upload(t, store, source(t))
	for range 2 {
		if _, err := Fetch(t.Context(), store, testPrefix, summary.ManifestDigest, to, small); err != nil {
			t.Fatal(err)
		}
	}
	write(t, to, map[string]file{"containers/a/rootfs.tar": {0o444, noise(7, 2*testChunk)}})
	if _, err := Fetch(t.Context(), store, testPrefix, summary.ManifestDigest, to, small); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("another content: have the error %v, want %v", err, storage.ErrCorrupt)
	}
	expectNothing(t, to+PartialSuffix)
}

func squeeze(text string) []byte {
	return s2.Encode(nil, []byte(text))
}

func TestWhatIsDamagedIsNotFetched(t *testing.T) {
	t.Parallel()
	chunk := testPrefix + "/data/" + hexDigest([]byte(noise(2, 500)))
	squeezed := testPrefix + "/data/" + hexDigest([]byte(text[:testChunk])) + compressed
	for name, test := range map[string]struct {
		damage func(ctx context.Context, store storage.Store) error
		want   []error
	}{
		"a chunk of another content": {func(ctx context.Context, store storage.Store) error {
			return store.Put(ctx, chunk, storage.Bytes([]byte(noise(6, 500))), storage.PutOptions{})
		}, []error{storage.ErrCorrupt}},
		"a chunk that is short": {func(ctx context.Context, store storage.Store) error {
			return store.Put(ctx, chunk, storage.Bytes([]byte(noise(2, 499))), storage.PutOptions{})
		}, []error{storage.ErrCorrupt}},
		"a chunk that is long": {func(ctx context.Context, store storage.Store) error {
			return store.Put(ctx, chunk, storage.Bytes([]byte(noise(2, 501))), storage.PutOptions{})
		}, []error{storage.ErrCorrupt}},
		"an empty chunk": {func(ctx context.Context, store storage.Store) error {
			return store.Put(ctx, chunk, storage.Bytes(nil), storage.PutOptions{})
		}, []error{storage.ErrCorrupt}},
		"a missing chunk": {func(ctx context.Context, store storage.Store) error {
			return store.Delete(ctx, chunk)
		}, []error{storage.ErrCorrupt, storage.ErrNotExist}},
		"a compressed chunk that is none": {func(ctx context.Context, store storage.Store) error {
			return store.Put(ctx, squeezed, storage.Bytes([]byte("x")), storage.PutOptions{})
		}, []error{storage.ErrCorrupt}},
		"a compressed chunk of another content": {func(ctx context.Context, store storage.Store) error {
			return store.Put(ctx, squeezed, storage.Bytes(squeeze(strings.Repeat("x", testChunk))), storage.PutOptions{})
		}, []error{storage.ErrCorrupt}},
		"a compressed chunk that is short": {func(ctx context.Context, store storage.Store) error {
			return store.Put(ctx, squeezed, storage.Bytes(squeeze(text[:testChunk-1])), storage.PutOptions{})
		}, []error{storage.ErrCorrupt}},
		"a compressed chunk that swells": {func(ctx context.Context, store storage.Store) error {
			return store.Put(ctx, squeezed, storage.Bytes(squeeze(strings.Repeat("x", 1<<26))), storage.PutOptions{})
		}, []error{storage.ErrCorrupt}},
		"a missing compressed chunk": {func(ctx context.Context, store storage.Store) error {
			return store.Delete(ctx, squeezed)
		}, []error{storage.ErrCorrupt, storage.ErrNotExist}},
		"another manifest": {func(ctx context.Context, store storage.Store) error {
			return store.Put(ctx, testPrefix+"/manifest.json", storage.Bytes([]byte(`{}`)), storage.PutOptions{})
		}, []error{storage.ErrCorrupt}},
		"a missing manifest": {func(ctx context.Context, store storage.Store) error {
			return store.Delete(ctx, testPrefix+"/manifest.json")
		}, []error{storage.ErrNotExist}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, to := openStore(t), filepath.Join(t.TempDir(), "to")
			summary := upload(t, store, source(t))
			for _, key := range []string{chunk, squeezed} {
				if _, err := store.Stat(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
			if err := test.damage(t.Context(), store); err != nil {
				t.Fatal(err)
			}
			_, err := Fetch(t.Context(), store, testPrefix, summary.ManifestDigest, to, small)
			for _, want := range test.want {
				if !errors.Is(err, want) {
					t.Errorf("have the error %v, want %v", err, want)
				}
			}
			expectNothing(t, to)
		})
	}
}

func TestDeleteRemovesACheckpointAndNoOther(t *testing.T) {
	t.Parallel()
	store, from := openStore(t), source(t)
	upload(t, store, from)
	if _, err := Upload(t.Context(), store, testPrefix+"5", from, small); err != nil { // its prefix begins with that of the other
		t.Fatal(err)
	}
	want := keys(t, store, testPrefix+"5")
	for range 2 {
		if err := Delete(t.Context(), store, testPrefix); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, keys(t, store, "")); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for _, prefix := range []string{"", "/", "..", "checkpoints/"} {
		if err := Delete(t.Context(), store, prefix); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("prefix %q: have the error %v, want %v", prefix, err, storage.ErrInvalid)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const chunk = 1 << 20
	w := newWork(t.Context(), Options{Parallel: 3}, chunk, 0)
	var mu sync.Mutex
	now, most := 0, 0
	add := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		now += n
		most = max(most, now)
	}
	for range 40 {
		for _, size := range []int64{chunk, 100, chunk / 2} {
			err := w.start(size, func(buffer []byte) (int64, error) {
				add(cap(buffer))
				defer add(-cap(buffer))
				return size, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.wait(nil); err != nil || most > 6*chunk {
		t.Errorf("%v; %d bytes at once", err, most)
	}
}

func TestIsZero(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 4095, 4096, 4097, 100_000} {
		data := make([]byte, size)
		if !isZero(data) {
			t.Errorf("%d zeros are not", size)
		}
		for _, at := range []int{0, size / 2, size - 1} {
			if changed := bytes.Clone(data); size > 0 {
				if changed[at] = 1; isZero(changed) {
					t.Errorf("%d bytes with a one at %d are zero", size, at)
				}
			}
		}
	}
}
