package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
)

func TestADirectoryComesBackAsItWas(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		from, to := source(t), filepath.Join(t.TempDir(), "to")
		write(t, from, map[string]file{"agent.json": {0o600, "a note"}, "agent-notes/": {0o700, ""}, "agent-notes/more": {0o600, "another"}})
		var done []int64
		progress := func(d, total int64) { done = append(done, d, total) }
		sent, err := f.Upload(t.Context(), "c", from, UploadOptions{Progress: progress})
		if err != nil {
			t.Fatal(err)
		}
		size, files := int64(0), 0
		for name, f := range capture {
			size += int64(len(f.data))
			if !strings.HasSuffix(name, "/") {
				files++
			}
		}
		// What is sent is neither the zeros, nor what can be compressed away.
		noise, some := size-4<<20-int64(len(text)), int64(10<<10)
		if sent.Sent < noise || sent.Sent > noise+some {
			t.Errorf("it sends %d bytes; it has to send %d and some", sent.Sent, noise)
		}
		want := Summary{ManifestDigest: sent.ManifestDigest, Files: files, Bytes: size, Sent: sent.Sent}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Errorf("summary of the upload (-want +got):\n%s", diff)
		}
		expectAll(t, done, size)
		c := Checkpoint{"c", sent.ManifestDigest}
		for what, work := range map[string]func(progress Progress) (Summary, error){
			"fetch":  func(p Progress) (Summary, error) { return f.Fetch(t.Context(), c, to, p) },
			"verify": func(p Progress) (Summary, error) { return f.Verify(t.Context(), c, p) },
		} {
			done = nil
			got, err := work(progress)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("summary of %s (-want +got):\n%s", what, diff)
			}
			expectAll(t, done, size)
		}
		expectFiles(t, to, capture)
		expectNothing(t, to+PartialSuffix)
		if left := keys(t, f.Store, f.key(intentKind)); len(left) > 0 {
			t.Errorf("intents are left: %v", left)
		}
		if _, err := f.Fetch(t.Context(), c, to, nil); !errors.Is(err, storage.ErrExist) {
			t.Errorf("where it is already: have the error %v, want %v", err, storage.ErrExist)
		}
	})
}

func expectAll(t *testing.T, done []int64, size int64) {
	t.Helper()
	if n := len(done); n < 2 || done[n-2] != size || done[n-1] != size {
		t.Errorf("progress ends with %v; it has to end with all %d bytes", done, size)
	}
}

func TestOwnersTimesAndAttributesComeBack(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("it takes root to change owners")
	}
	f, from, to := folder(t), t.TempDir(), filepath.Join(t.TempDir(), "to")
	write(t, from, map[string]file{"d/": {0o700, ""}, "d/x": {0o640, "x"}})
	path := filepath.Join(from, "d/x")
	when := time.Unix(1234567890, 123456789)
	if err := errors.Join(os.Chown(path, 12, 34), syscall.Setxattr(path, "user.origin", []byte("here"), 0), os.Chtimes(path, when, when)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(t.Context(), upload(t, f, "c", from), to, nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(to, "d/x"))
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	value := make([]byte, 100)
	n, err := syscall.Getxattr(filepath.Join(to, "d/x"), "user.origin", value)
	if err != nil || string(value[:n]) != "here" || stat.Uid != 12 || stat.Gid != 34 || !info.ModTime().Equal(when) {
		t.Errorf("it has the owner %d:%d, the time %v and the attribute %q (%v)", stat.Uid, stat.Gid, info.ModTime(), value[:max(n, 0)], err)
	}
}

func TestHolesCostNothing(t *testing.T) {
	t.Parallel()
	f, from, to := folder(t), t.TempDir(), filepath.Join(t.TempDir(), "to")
	const size = 1 << 33 // 8 GiB
	sparse, err := os.Create(filepath.Join(from, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = sparse.WriteAt([]byte("in the middle"), size/2)
	if err = errors.Join(err, sparse.Truncate(size), sparse.Close()); err != nil {
		t.Fatal(err)
	}
	sent, err := f.Upload(t.Context(), "c", from, UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sent.Sent > 10<<10 || sent.Bytes != size {
		t.Errorf("it sends %d bytes of %d", sent.Sent, sent.Bytes)
	}
	if _, err := f.Fetch(t.Context(), Checkpoint{"c", sent.ManifestDigest}, to, nil); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(to, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != size || used > 1<<20 {
		t.Errorf("it has %d bytes and takes %d; it has to have %d and take less than a piece", info.Size(), used, int64(size))
	}
}

// memory is that of a process of which each page differs.
func memory(seed byte) process {
	return process{0x10000: noise(seed, 300*testPage), 0x7f0000000000: noise(seed+1, 2000*testPage), 0x7ffff0000000: strings.Repeat("\x00", 16*testPage)}
}

// change changes every n-th page.
func (p process) change(seed byte, n int) process {
	changed := process{}
	for address, pages := range p {
		data := []byte(pages)
		for at := 0; at < len(data); at += n * testPage {
			copy(data[at:], noise(seed+100, 64))
		}
		changed[address] = string(data)
	}
	return changed
}

func TestOnlyChangedPagesAreSent(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		first := memory(1)
		base, sent := first.upload(t, f, "first")
		if want := int64(2300 * testPage); sent.Sent < want || sent.Sent > want*101/100 {
			t.Errorf("the first sends %d bytes; it has to send %d and some", sent.Sent, want)
		}
		second := first.change(2, 20)
		// The mappings moved within the file: one is new, one is gone, one has grown.
		second[0x5000] = noise(9, 3*testPage)
		second[0x7f0000000000] += noise(10, 5*testPage)
		delete(second, 0x7ffff0000000)
		next, sent := second.upload(t, f, "second", base)
		if want := int64((15 + 100 + 3 + 5) * testPage); sent.Sent < want || sent.Sent > want*103/100 || sent.Shared != int64(285+1900)*testPage {
			t.Errorf("the second sends %d bytes and shares %d; it has to send %d and some", sent.Sent, sent.Shared, want)
		}
		second.expect(t, f, next)
		first.expect(t, f, base)
		third := second.change(3, 50)
		last, _ := third.upload(t, f, "third", Checkpoint{"gone", next.Digest}, next)
		for _, name := range []string{"first", "second"} {
			if err := f.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		third.expect(t, f, last)
		if err := f.Delete(t.Context(), "third"); err != nil {
			t.Fatal(err)
		}
		if left := keys(t, f.Store, ""); len(left) > 0 {
			t.Errorf("after all are deleted there are %v", left)
		}
	})
}

func TestWhatMovedWithinAFileIsFoundAgain(t *testing.T) {
	t.Parallel()
	f, one, other := folder(t), t.TempDir(), t.TempDir()
	data := noise(1, 20<<20)
	write(t, one, map[string]file{"rootfs.tar": {0o600, data}})
	write(t, other, map[string]file{"rootfs.tar": {0o600, data[:7<<20] + "a line is new\n" + data[7<<20:]}})
	base := upload(t, f, "one", one)
	sent, err := f.Upload(t.Context(), "other", other, UploadOptions{Bases: []Checkpoint{base}})
	if err != nil {
		t.Fatal(err)
	}
	if sent.Sent > 3<<20 {
		t.Errorf("it sends %d bytes of %d", sent.Sent, sent.Bytes)
	}
	to := filepath.Join(t.TempDir(), "to")
	if _, err := f.Fetch(t.Context(), Checkpoint{"other", sent.ManifestDigest}, to, nil); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, to, read(t, other))
}

func TestABaseIsNotBelievedWithoutItsDigest(t *testing.T) {
	t.Parallel()
	f, first := folder(t), memory(1)
	base, _ := first.upload(t, f, "first")
	for name, damage := range map[string]func(c *Checkpoint) error{
		"another digest": func(c *Checkpoint) error { c.Digest = digestOf([]byte("x")); return nil },
		"no digest":      func(c *Checkpoint) error { c.Digest = ""; return nil },
		"another index": func(*Checkpoint) error {
			return f.Store.Put(t.Context(), f.key(indexKind, "first"), storage.Bytes([]byte(indexMagic+noise(1, 100000))), storage.PutOptions{})
		},
	} {
		c := base
		if err := damage(&c); err != nil {
			t.Fatal(err)
		}
		_, sent := first.upload(t, f, strings.ReplaceAll(name, " ", "-"), c)
		if sent.Shared > 0 {
			t.Errorf("%s: it shares %d bytes", name, sent.Shared)
		}
	}
}

func TestAnotherKeySharesNothing(t *testing.T) {
	t.Parallel()
	f, first := folder(t), memory(1)
	f.Keys = testKeys[1:]
	old, _ := first.upload(t, f, "old")
	f.Keys = testKeys // rotated
	_, sent := first.upload(t, f, "new", old)
	if sent.Shared > 0 {
		t.Errorf("it shares %d bytes with what is encrypted by the old key", sent.Shared)
	}
	first.expect(t, f, old)
	f.Keys = testKeys[:1]
	if _, err := f.Fetch(t.Context(), old, filepath.Join(t.TempDir(), "to"), nil); !errors.Is(err, storage.ErrNoKey) {
		t.Errorf("without its key: have the error %v, want %v", err, storage.ErrNoKey)
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
			f, from := folder(t), t.TempDir()
			if err := make(filepath.Join(from, "x")); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Upload(t.Context(), "c", from, UploadOptions{}); !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("have the error %v, want %v", err, storage.ErrInvalid)
			}
			if got := keys(t, f.Store, ""); len(got) > 0 {
				t.Errorf("it stored %q", got)
			}
		})
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	t.Parallel()
	f := folder(t)
	for _, test := range []struct{ folder, name string }{{"", "c"}, {"/", "c"}, {"..", "c"}, {"x/", "c"}, {"x", ""}, {"x", "a/b"}, {"x", ".."}} {
		f.Name = test.folder
		_, err := f.Upload(t.Context(), test.name, t.TempDir(), UploadOptions{})
		_, fetched := f.Fetch(t.Context(), Checkpoint{test.name, digestOf(nil)}, t.TempDir()+"/x", nil)
		for what, err := range map[string]error{"upload": err, "fetch": fetched, "delete": f.Delete(t.Context(), test.name)} {
			if !errors.Is(err, storage.ErrInvalid) {
				t.Errorf("%s of %+v: have the error %v, want %v", what, test, err, storage.ErrInvalid)
			}
		}
	}
	f.Name, f.Keys = "x", Keys{[]byte("short")}
	_, err := f.Upload(t.Context(), "c", t.TempDir(), UploadOptions{})
	if !errors.Is(err, storage.ErrInvalid) || strings.Contains(fmt.Sprintf("%v %+v", err, f.Keys), "short") {
		t.Errorf("a short key: have the error %v, want %v and no key", err, storage.ErrInvalid)
	}
}

// watched counts what is put, and ends the context after so many calls that change something.
type watched struct {
	storage.Store
	mu     sync.Mutex
	puts   []string
	calls  int
	after  int // calls, then cancel; 0 is never
	before bool
	cancel func()
}

func (w *watched) step(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	w.puts = append(w.puts, key)
	if w.after > 0 && w.calls >= w.after {
		w.cancel()
		return w.before
	}
	return false
}

func (w *watched) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	if w.step(key) {
		return context.Canceled
	}
	err := w.Store.Put(context.WithoutCancel(ctx), key, body, opts)
	return errors.Join(err, ctx.Err())
}

func (w *watched) Delete(ctx context.Context, key string) error {
	if w.step(key) {
		return context.Canceled
	}
	return errors.Join(w.Store.Delete(context.WithoutCancel(ctx), key), ctx.Err())
}

// TestAnUploadGoesOnWhereverItWasKilled ends an upload before and after each of its steps. The checkpoint that was there stays right at any time, the
// next upload sends no pack twice, and nothing is left after both are deleted.
func TestAnUploadGoesOnWhereverItWasKilled(t *testing.T) {
	t.Parallel()
	first := memory(1)
	first[0x100000000] = noise(3, 9000*testPage) // more than one pack
	second := first.change(2, 3)
	for _, before := range []bool{true, false} {
		for after := 1; ; after++ {
			f, dir, state := folder(t), t.TempDir(), filepath.Join(t.TempDir(), "state")
			base, _ := first.upload(t, f, "first")
			write(t, dir, second.images())
			ctx, cancel := context.WithCancel(t.Context())
			store := f.Store
			killed := &watched{Store: store, after: after, before: before, cancel: cancel}
			f.Store = killed
			opts := UploadOptions{Bases: []Checkpoint{base}, State: state}
			_, err := f.Upload(ctx, "second", dir, opts)
			cancel()
			again := &watched{Store: store}
			f.Store = again
			if err != nil {
				first.expect(t, f, base)
			}
			sent, err2 := f.Upload(t.Context(), "second", dir, opts)
			if err2 != nil {
				t.Fatalf("after %d steps: %v, then %v", after, err, err2)
			}
			puts, done := map[string]int{}, killed.puts
			if before {
				done = done[:min(after-1, len(done))]
			}
			for _, key := range slices.Concat(done, again.puts) {
				if strings.Contains(key, "/"+packKind+"/second/") {
					puts[key]++
				}
			}
			for key, n := range puts {
				if n > 1 {
					t.Errorf("after %d steps (%v): %s is sent %d times", after, before, key, n)
				}
			}
			second.expect(t, f, Checkpoint{"second", sent.ManifestDigest})
			if err := errors.Join(f.Delete(t.Context(), "first"), f.Delete(t.Context(), "second")); err != nil {
				t.Fatal(err)
			}
			if left := keys(t, f.Store, ""); len(left) > 0 {
				t.Errorf("after %d steps (%v): there are %v", after, before, left)
			}
			if err == nil {
				break
			}
		}
	}
}

// TestADeleteGoesOnWhereverItWasKilled does the same with a delete: whatever manifest is there is one of a whole checkpoint.
func TestADeleteGoesOnWhereverItWasKilled(t *testing.T) {
	t.Parallel()
	first := memory(1)
	second := first.change(2, 7)
	for after := 1; ; after++ {
		f := folder(t)
		base, _ := first.upload(t, f, "first")
		next, _ := second.upload(t, f, "second", base)
		ctx, cancel := context.WithCancel(t.Context())
		store := f.Store
		f.Store = &watched{Store: store, after: after, cancel: cancel}
		killed := f.Delete(ctx, "first")
		cancel()
		f.Store = store
		if _, err := f.Verify(t.Context(), base, nil); err != nil && !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("after %d steps: %v", after, err)
		}
		second.expect(t, f, next)
		if err := errors.Join(f.Delete(t.Context(), "first"), f.Delete(t.Context(), "second")); err != nil {
			t.Fatal(err)
		}
		if left := keys(t, f.Store, ""); len(left) > 0 {
			t.Errorf("after %d steps: there are %v", after, left)
		}
		if killed == nil {
			return
		}
	}
}

// TestUploadsAndDeletesAtOnce has uploads rely on what is deleted at the same time.
func TestUploadsAndDeletesAtOnce(t *testing.T) {
	t.Parallel()
	f := folder(t)
	p := memory(1)
	last, _ := p.upload(t, f, "0")
	for i := 1; i < 15; i++ {
		p = p.change(byte(i), 5)
		old := last
		var group sync.WaitGroup
		group.Go(func() { last, _ = p.upload(t, f, fmt.Sprint(i), old) })
		group.Go(func() {
			if err := f.Delete(t.Context(), old.Name); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		p.expect(t, f, last)
	}
	space := spaceOf(t, f)
	if len(space.Checkpoints) != 1 || space.Checkpoints[0].Logical == 0 || space.Bytes != space.Checkpoints[0].Own || space.Unnamed+space.Uploading > 0 {
		t.Errorf("it takes %+v", space)
	}
}

func TestAPackThatVanishesIsSentAgain(t *testing.T) {
	t.Parallel()
	f, first := folder(t), memory(1)
	base, _ := first.upload(t, f, "first")
	store := f.Store
	var once sync.Once
	f.Store = &hooked{Store: store, put: func(key string) {
		if strings.Contains(key, "/"+packKind+"/") || strings.Contains(key, "/"+indexKind+"/") {
			once.Do(func() {
				for _, pack := range keys(t, store, f.key(packKind, "first")) {
					if err := store.Delete(t.Context(), pack); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}}
	second := first.change(2, 10)
	next, sent := second.upload(t, f, "second", base)
	if sent.Shared > 0 {
		t.Errorf("it shares %d bytes with what has vanished", sent.Shared)
	}
	second.expect(t, f, next)
}

type hooked struct {
	storage.Store
	put func(key string)
}

func (h *hooked) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	h.put(key)
	return h.Store.Put(ctx, key, body, opts)
}

func TestWhatIsDamagedIsNotFetched(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		c := upload(t, f, "c", source(t))
		pack := keys(t, f.Store, f.key(packKind))[0]
		body, err := f.Store.Get(t.Context(), pack, storage.Range{})
		if err != nil {
			t.Fatal(err)
		}
		whole, err := io.ReadAll(body)
		if err = errors.Join(err, body.Close()); err != nil {
			t.Fatal(err)
		}
		damaged := func(change func(data []byte) []byte) error {
			return f.Store.Put(t.Context(), pack, storage.Bytes(change(bytes.Clone(whole))), storage.PutOptions{})
		}
		for name, test := range map[string]struct {
			damage func() error
			want   []error
		}{
			"a bit at the beginning": {func() error {
				return damaged(func(data []byte) []byte { data[0] ^= 1; return data })
			}, []error{storage.ErrCorrupt}},
			"a bit at the end": {func() error {
				return damaged(func(data []byte) []byte { data[len(data)-1] ^= 0x80; return data })
			}, []error{storage.ErrCorrupt}},
			"a pack that is short": {func() error {
				return damaged(func(data []byte) []byte { return data[:len(data)-1] })
			}, []error{storage.ErrCorrupt}},
			"an empty pack":  {func() error { return damaged(func([]byte) []byte { return nil }) }, []error{storage.ErrCorrupt}},
			"a missing pack": {func() error { return f.Store.Delete(t.Context(), pack) }, []error{storage.ErrCorrupt, storage.ErrNotExist}},
		} {
			if err := test.damage(); err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(t.TempDir(), "to")
			_, err := f.Fetch(t.Context(), c, to, nil)
			_, verified := f.Verify(t.Context(), c, nil)
			for _, want := range test.want {
				if !errors.Is(err, want) || !errors.Is(verified, want) {
					t.Errorf("%s: have the errors %v and %v, want %v", name, err, verified, want)
				}
			}
			if !strings.Contains(fmt.Sprint(err), strings.TrimPrefix(pack, f.key(packKind)+"/")) {
				t.Errorf("%s: %v does not name the pack", name, err)
			}
			expectNothing(t, to)
		}
		manifest := f.key(manifestKind, "c")
		if err := f.Store.Put(t.Context(), manifest, storage.Bytes([]byte(manifestMagic+"x")), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Fetch(t.Context(), c, filepath.Join(t.TempDir(), "to"), nil); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("another manifest: have the error %v, want %v", err, storage.ErrCorrupt)
		}
		if err := f.Store.Delete(t.Context(), manifest); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Fetch(t.Context(), c, filepath.Join(t.TempDir(), "to"), nil); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("no manifest: have the error %v, want %v", err, storage.ErrNotExist)
		}
	})
}

// TestAFetchGoesOn ends a fetch after each of its steps, and lets the next one go on.
func TestAFetchGoesOn(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		p := memory(1)
		p[0x100000000] = noise(3, 20000*testPage) // more than one pack
		c, _ := p.upload(t, f, "c")
		f.Memory = NewMemory(1, 1)
		whole, err := f.Verify(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "to")
		sent, tries := int64(0), 0
		for ; ; tries++ {
			ctx, cancel := context.WithCancel(t.Context())
			steps := 0
			summary, err := f.Fetch(ctx, c, to, func(int64, int64) {
				if steps++; steps > 40+tries*40 {
					cancel()
				}
			})
			cancel()
			sent += summary.Sent
			if err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			expectNothing(t, to)
		}
		if tries < 2 || sent > whole.Sent+int64(tries)*maxSpan {
			t.Errorf("in %d tries it reads %d bytes of %d", tries+1, sent, whole.Sent)
		}
		want := p.images()
		want["containers/"], want["containers/a/"], want["containers/a/criu/"] = file{0o700, ""}, file{0o700, ""}, file{0o700, ""}
		expectFiles(t, to, want)
	})
}

// TestAFetchBeginsAnewWhereItMust has in the directory what is of another checkpoint, of another boot, or of nobody.
func TestAFetchBeginsAnewWhereItMust(t *testing.T) {
	t.Parallel()
	f := folder(t)
	p := memory(1)
	c, _ := p.upload(t, f, "c")
	boot, err := os.ReadFile(bootFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, note := range map[string]string{
		"of another checkpoint": fetchedHead(digestOf([]byte("x")), string(boot)) + "0 0\n0 1\n",
		"of another boot":       fetchedHead(c.Digest, "1234") + "0 0\n0 1\n",
		"of nobody":             "",
		"damaged":               fetchedHead(c.Digest, string(boot)) + "0 0\nx\n",
		"cut off":               fetchedHead(c.Digest, string(boot)) + "0 0", // so that it is not known whether it ends there
	} {
		to := filepath.Join(t.TempDir(), "to")
		write(t, to+PartialSuffix, map[string]file{fetchedFile: {0o600, note}})
		if name != "cut off" {
			write(t, to+PartialSuffix, map[string]file{"strange": {0o600, "x"}})
		}
		if _, err := f.Fetch(t.Context(), c, to, nil); err != nil {
			t.Fatal(err)
		}
		want := p.images()
		want["containers/"], want["containers/a/"], want["containers/a/criu/"] = file{0o700, ""}, file{0o700, ""}, file{0o700, ""}
		t.Run(name, func(t *testing.T) { expectFiles(t, to, want) })
	}
}

func TestDeleteRemovesACheckpointAndNoOther(t *testing.T) {
	t.Parallel()
	f := folder(t)
	p := memory(1)
	p.upload(t, f, "c1")
	other, _ := memory(5).upload(t, f, "c12") // its name begins with that of the other
	want := keys(t, f.Store, "")
	want = slices.DeleteFunc(want, func(key string) bool { return strings.HasSuffix(key, "/c1") || strings.Contains(key, "/c1/") })
	for range 2 {
		if err := f.Delete(t.Context(), "c1"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, keys(t, f.Store, "")); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	memory(5).expect(t, f, other)
}

func TestAPageIsFoundByItsAddress(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		p := memory(1)
		base, _ := p.upload(t, f, "first")
		p = p.change(2, 9)
		c, _ := p.upload(t, f, "second", base)
		open, err := f.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		const start = 0x7f0000000000
		for _, page := range []int{0, 1, 9, 1000, 1999} {
			got, err := open.Page(t.Context(), "containers/a/criu/pagemap-7.img", start+uint64(page*testPage))
			if want := p[start][page*testPage : (page+1)*testPage]; err != nil || string(got) != want {
				t.Errorf("page %d: %v, or another content", page, err)
			}
		}
		if got, err := open.Page(t.Context(), "containers/a/criu/pagemap-7.img", 0x7ffff0001000); err != nil || !isZero(got) || len(got) != testPage {
			t.Errorf("a page of zeros: %v", err)
		}
		for _, address := range []uint64{0, 0xffff, start - 1, start + 2000*testPage, 1<<64 - 1} {
			if _, err := open.Page(t.Context(), "containers/a/criu/pagemap-7.img", address); !errors.Is(err, storage.ErrNotExist) {
				t.Errorf("at %#x: have the error %v, want %v", address, err, storage.ErrNotExist)
			}
		}
	})
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
