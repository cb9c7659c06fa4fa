package image

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/storage"
)

// expectError fails the test unless the error is one of those that are wanted.
func expectError(t testing.TB, what string, err error, want ...error) {
	t.Helper()
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
		t.Errorf("%s: have the error %v, want one of %v", what, err, want)
	}
}

// TestAPageOfAMissingPackIsCorrupt, for storage.ErrNotExist says that the process has no such page.
func TestAPageOfAMissingPackIsCorrupt(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(f *Folder, pack string) error{
		"missing": func(f *Folder, pack string) error { return f.Store.Delete(t.Context(), pack) },
		"empty": func(f *Folder, pack string) error {
			return f.Store.Put(t.Context(), pack, storage.Bytes(nil), storage.PutOptions{})
		},
	} {
		f, p := folder(t), memory(1)
		c, _ := p.upload(t, f, "c")
		open, err := f.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := damage(f, keys(t, f.Store, f.key(packKind))[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := open.Page(t.Context(), "containers/a/criu/pagemap-7.img", 0x10000+5*testPage); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: have the error %v, want %v", name, err, storage.ErrCorrupt)
		}
	}
}

var errCut = fmt.Errorf("the connection broke: %w: %w", storage.ErrUnavailable, io.ErrUnexpectedEOF)

// ending reads bytes, and then something that is an end or an error.
type ending struct {
	*bytes.Reader
	end func() error
}

func (e *ending) Read(p []byte) (int, error) {
	if e.Len() == 0 {
		return 0, e.end()
	}
	return e.Reader.Read(p)
}

// WriteTo is there lest the one of bytes.Reader hides the end.
func (e *ending) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{e}) }

// breaking is a store in which the bodies of some objects break off.
type breaking struct {
	storage.Store
	kind string
}

func (b *breaking) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	body, err := b.Store.Get(ctx, key, r)
	if err != nil || !strings.Contains(key, "/"+b.kind+"/") {
		return body, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return io.NopCloser(&ending{bytes.NewReader(data[:len(data)/2]), func() error { return errCut }}), err
}

// TestAnIndexThatBreaksOffIsNotDamaged: the upload has to be tried again, rather than go on without its base.
func TestAnIndexThatBreaksOffIsNotDamaged(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		base, _ := memory(1).upload(t, f, "first")
		f.Store = &breaking{f.Store, indexKind}
		dir := t.TempDir()
		write(t, dir, memory(1).images())
		_, err := f.Upload(t.Context(), "second", dir, UploadOptions{Bases: []Checkpoint{base}})
		if !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("have the error %v, want %v alone", err, storage.ErrUnavailable)
		}
	})
}

// TestADamagedIntentIsCorrupt, and nothing is deleted meanwhile.
func TestADamagedIntentIsCorrupt(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c, _ := memory(1).upload(t, f, "c")
	if err := f.Store.Put(t.Context(), f.key(intentKind, "d"), storage.Bytes([]byte(`{"version":2,"packs":[`)), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	expectError(t, "delete", f.Delete(t.Context(), "e"), storage.ErrCorrupt)
	memory(1).expect(t, f, c)
}

// TestWhatWasDeletedIsUploadedAgain, though the state says that it was there.
func TestWhatWasDeletedIsUploadedAgain(t *testing.T) {
	t.Parallel()
	f, dir, opts := folder(t), t.TempDir(), UploadOptions{State: filepath.Join(t.TempDir(), "state")}
	write(t, dir, small(1))
	for range 2 {
		summary, err := f.Upload(t.Context(), "c", dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Verify(t.Context(), Checkpoint{"c", summary.ManifestDigest}, nil); err != nil {
			t.Error(err)
		}
		if err := f.Delete(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
	}
}

// once is a store whose first deletion fails.
type once struct {
	storage.Store
	failed bool
}

func (o *once) Delete(ctx context.Context, key string) error {
	if !o.failed {
		o.failed = true
		return storage.ErrUnavailable
	}
	return o.Store.Delete(ctx, key)
}

// TestAnUploadThatEndsTwiceLeavesNoIntent, which would keep packs from being deleted for as long as its checkpoint is there.
func TestAnUploadThatEndsTwiceLeavesNoIntent(t *testing.T) {
	t.Parallel()
	f, dir, opts := folder(t), t.TempDir(), UploadOptions{State: filepath.Join(t.TempDir(), "state")}
	f.Store = &once{Store: f.Store}
	write(t, dir, small(1))
	_, err := f.Upload(t.Context(), "c", dir, opts)
	expectError(t, "first upload", err, storage.ErrUnavailable)
	if _, err := f.Upload(t.Context(), "c", dir, opts); err != nil {
		t.Fatal(err)
	}
	if left := keys(t, f.Store, f.key(intentKind)); len(left) > 0 {
		t.Errorf("there are the intents %v", left)
	}
}

// TestNoManifestTakesMuchMemory, lest somebody who can write into a bucket makes all readers of it run out of memory. It runs alone.
func TestNoManifestTakesMuchMemory(t *testing.T) {
	const size, factor = 4 << 20, 64
	fill := func(begin, element, end string) string {
		return begin + strings.Repeat(element+",", (size-len(begin)-len(end))/(len(element)+1)) + element + end
	}
	for name, text := range map[string]string{
		"entries with nothing":  fill(`{"pageSize":4096,"entries":[`, `{}`, `]}`),
		"entries that are none": fill(`{"pageSize":4096,"entries":[`, `0`, `]}`),
		"packs with nothing":    fill(`{"pageSize":4096,"packs":[`, `{}`, `]}`),
		"packs that are none":   fill(`{"pageSize":4096,"packs":[`, `0`, `]}`),
		"the shortest entries":  fill(`{"pageSize":4096,"entries":[`, `{"path":"a","kind":"file","mode":"0000"}`, `]}`),
		"the shortest packs":    fill(`{"pageSize":0,"packs":[`, `{"name":"a"}`, `]}`),
		"other fields":          fill(`{"pageSize":0,"other":[`, `[]`, `]}`),
	} {
		before := allocated()
		_, err := parseManifest(append(binary.LittleEndian.AppendUint32(nil, uint32(len(text))), text...))
		expectError(t, name, err, storage.ErrCorrupt)
		if took := allocated() - before; took > factor*size {
			t.Errorf("%s: %d bytes take %d", name, size, took)
		}
	}
}

// TestALongHeadIsNotRead, and nobody writes one. It runs alone.
func TestALongHeadIsNotRead(t *testing.T) {
	long := append(binary.LittleEndian.AppendUint32(nil, maxHeadText+1), make([]byte, maxHeadText+1)...)
	before := allocated()
	_, err := parseManifest(long)
	expectError(t, "a byte too many", err, storage.ErrCorrupt)
	if took := allocated() - before; took > 1<<20 {
		t.Errorf("it takes %d bytes", took)
	}
	m := &manifest{head: head{PageSize: 4096}}
	for range maxHeadText / 128 {
		m.Entries = append(m.Entries, entry{Path: strings.Repeat("x", 128), Kind: kindFile, Mode: "0600"})
	}
	_, err = m.encode(0)
	expectError(t, "too many files", err, storage.ErrInvalid)
}

// allocated returns how many bytes were allocated up to now.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestHolesInMemoryLeaveTheIndexInOrder has a file with pages of which a whole item is a hole. The marks of the files behind it stay theirs.
func TestHolesInMemoryLeaveTheIndexInOrder(t *testing.T) {
	t.Parallel()
	f, dir := folder(t), t.TempDir()
	images := process{0x100000: noise(3, 3*itemSize)}.images()
	images["containers/a/criu/x.img"] = file{0o600, noise(7, 300)}
	images["containers/a/criu/y.img"] = file{0o600, noise(8, 300)}
	images["containers/a/criu/z.img"] = file{0o600, noise(9, 300)}
	write(t, dir, images)
	pages, err := os.OpenFile(filepath.Join(dir, "containers/a/criu/pages-1.img"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = pages.WriteAt([]byte(noise(1, itemSize)), 0)
	_, last := pages.WriteAt([]byte(noise(2, itemSize)), 2*itemSize)
	if err := errors.Join(err, last, pages.Close()); err != nil {
		t.Fatal(err)
	}
	base := upload(t, f, "a", dir)
	sent, err := f.Upload(t.Context(), "b", dir, UploadOptions{Bases: []Checkpoint{base}})
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "to")
	if _, err := f.Fetch(t.Context(), Checkpoint{"b", sent.ManifestDigest}, to, nil); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, to, read(t, dir))
	if sent.Sent > 0 {
		t.Errorf("it sends %d bytes again", sent.Sent)
	}
}

// TestADirectoryThatIsHalfRemovedIsFetchedAnew has what says that all is in its place, and not the files.
func TestADirectoryThatIsHalfRemovedIsFetchedAnew(t *testing.T) {
	t.Parallel()
	f, dir := folder(t), t.TempDir()
	write(t, dir, map[string]file{"a.img": {0o600, noise(7, 300000)}, "b.img": {0o600, noise(8, 300000)}})
	c, to := upload(t, f, "a", dir), filepath.Join(t.TempDir(), "to")
	before, err := openFetched(to+PartialSuffix, c.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(before.note(place{0, 0}), before.file.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(t.Context(), c, to, nil); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, to, read(t, dir))
}

func TestAJournalThatCannotBeBegunIsAnError(t *testing.T) {
	t.Parallel()
	f, dir, state := folder(t), t.TempDir(), filepath.Join(t.TempDir(), "state")
	write(t, dir, map[string]file{"a.img": {0o600, "x"}})
	if err := os.Mkdir(state+journalSuffix+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Upload(t.Context(), "c", dir, UploadOptions{State: state}); err == nil {
		t.Error("it is none")
	}
}
