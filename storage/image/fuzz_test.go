package image

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/json"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/zeebo/blake3"

	"github.com/transparent-checkpoint/operator/storage"
)

// held is a store that has its objects in memory, and can only be read.
type held struct {
	storage.Store
	objects map[string][]byte
}

func (h *held) Get(_ context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	data, ok := h.objects[key]
	switch {
	case !ok:
		return nil, storage.ErrNotExist
	case r.Offset > 0 && r.Offset >= int64(len(data)):
		return nil, storage.ErrInvalid
	}
	data = data[r.Offset:]
	if r.Length > 0 && r.Length < int64(len(data)) {
		data = data[:r.Length]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (h *held) List(_ context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(h.objects)) {
			if strings.HasPrefix(key, prefix) && key > after && !yield(storage.Info{Key: key, Size: int64(len(h.objects[key]))}, nil) {
				return
			}
		}
	}
}

// small is memory and some files, of which most are the same in every one.
func small(seed byte) map[string]file {
	p := process{0x5000: noise(seed, 2*testPage), 0x10000: noise(1, 6*testPage), 0x7ffff0000000: strings.Repeat("\x00", 2*testPage)}
	files := p.images()
	files["capture.json"] = file{0o600, `{"state":"complete"}`}
	files["containers/a/text.img"] = file{0o644, text[:60000] + string(rune('a'+seed))}
	files["containers/a/rootfs.tar"] = file{0o444, noise(3, 50000) + strings.Repeat("\x00", 600<<10)}
	files["log/"] = file{0o755, ""}
	return files
}

// uploaded returns the objects of two checkpoints, first and second, the latter of which shares much with the former, and their journals.
func uploaded(t testing.TB, keys Keys) (f *Folder, objects map[string][]byte, journals map[string][]byte) {
	t.Helper()
	f = folder(t)
	f.Keys = keys
	store, states := f.Store, t.TempDir()
	journals, objects = map[string][]byte{}, map[string][]byte{}
	var bases []Checkpoint
	for i, name := range []string{"first", "second"} {
		dir, state := t.TempDir(), filepath.Join(states, name)
		write(t, dir, small(byte(10+i)))
		summary, err := f.Upload(t.Context(), name, dir, UploadOptions{Bases: bases, State: state})
		if err != nil {
			t.Fatal(err)
		}
		bases = []Checkpoint{{name, summary.ManifestDigest}}
		if journals[name], err = os.ReadFile(state + journalSuffix); err != nil {
			t.Fatal(err)
		}
	}
	for info, err := range store.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if objects[info.Key], err = f.get(t.Context(), info.Key, info.Size, nil); err != nil {
			t.Fatal(err)
		}
	}
	f.Store = &held{objects: objects}
	return f, objects, journals
}

// opened returns what is in an object with a head.
func opened(t testing.TB, keys Keys, magic string, object []byte) []byte {
	t.Helper()
	var payload bytes.Buffer
	if err := keys.open(magic, bytes.NewReader(object), &payload); err != nil {
		t.Fatal(err)
	}
	return payload.Bytes()
}

// equal are the options with which two manifests are compared.
var equal = []cmp.Option{cmp.AllowUnexported(manifest{}, entry{}, extent{}, segment{}, frame{}), cmpopts.EquateEmpty()}

// FuzzManifest: what is accepted comes back from its own encoding, and can be walked through in every way in which readers and writers do.
func FuzzManifest(f *testing.F) {
	for _, keys := range []Keys{nil, testKeys} {
		from, objects, _ := uploaded(f, keys)
		for _, name := range []string{"first", "second"} {
			f.Add(opened(f, keys, manifestMagic, objects[from.key(manifestKind, name)]))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			expectError(t, "parse", err, storage.ErrCorrupt)
			return
		}
		again, err := m.encode(0)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseManifest(again)
		if err != nil {
			t.Fatalf("what was encoded again is not accepted: %v", err)
		}
		if diff := cmp.Diff(m, back, equal...); diff != "" {
			t.Errorf("manifest (-want +got):\n%s", diff)
		}
		walkThrough(t, m)
	})
}

// walkThrough looks at a manifest that was accepted.
func walkThrough(t *testing.T, m *manifest) {
	t.Helper()
	m.isFragmented()
	r := &reader{m: m}
	r.collectUses(0, len(m.Entries))
	for rest := r.uses; len(rest) > 0; {
		n := r.spanOf(rest)
		at := int64(0)
		for i := range rest[:n] {
			f := &m.frames[rest[i].frame]
			if i > 0 && rest[i].frame == rest[i-1].frame {
				continue
			}
			if int64(f.offset) < at {
				t.Fatalf("a span goes back from byte %d to %d", at, f.offset)
			}
			at = int64(f.offset) + int64(f.stored)
		}
		rest = rest[n:]
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		e.mode()
		starts, first := e.starts(), int64(0)
		for _, s := range e.segments {
			for _, page := range []uint32{0, s.pages / 2, s.pages - 1} {
				number, ok := e.page(s.address+uint64(page)*uint64(m.PageSize), m.PageSize)
				if !ok || number != first+int64(page) {
					t.Fatalf("page %d of the segment at %#x is number %d (%v), want %d", page, s.address, number, ok, first+int64(page))
				}
				offset := number * int64(m.PageSize)
				x, start := e.find(starts, offset)
				if offset < start || offset >= start+int64(e.extents[x].length) {
					t.Fatalf("byte %d is not in extent %d", offset, x)
				}
			}
			first += int64(s.pages)
		}
	}
}

// FuzzObject: manifests and indexes with a head, encrypted or not. Nothing longer than the object comes out, and of an encrypted one only what somebody
// has encrypted.
func FuzzObject(f *testing.F) {
	payload := noise(1, 2*segmentSize) // two segments, the last one full
	for _, keys := range []Keys{nil, testKeys, testKeys[1:], {bytes.Repeat([]byte{3}, keySize)}} {
		from, objects, _ := uploaded(f, keys)
		f.Add(objects[from.key(manifestKind, "second")], false)
		f.Add(objects[from.key(indexKind, "second")], true)
		var long bytes.Buffer
		if err := keys.seal(indexMagic, strings.NewReader(payload), &long); err != nil {
			f.Fatal(err)
		}
		f.Add(long.Bytes(), true)
		f.Add(long.Bytes()[:headSize+segmentSize+tagSize], true) // it ends between two segments
	}
	isKnown := func(opened []byte, isIndex bool) bool {
		if isIndex {
			return string(opened) == payload || len(opened) > 0 && len(opened)%markSize == 0 && len(opened) < segmentSize
		}
		_, err := parseManifest(opened)
		return err == nil
	}
	f.Fuzz(func(t *testing.T, object []byte, isIndex bool) {
		magic := manifestMagic
		if isIndex {
			magic = indexMagic
		}
		var payload bytes.Buffer
		if err := testKeys.open(magic, bytes.NewReader(object), &payload); err != nil {
			expectError(t, "open", err, storage.ErrCorrupt, storage.ErrNoKey)
			return
		}
		if payload.Len() > len(object)-headSize {
			t.Errorf("%d bytes come out of %d", payload.Len(), len(object))
		}
		if encrypted := object[10] == encryptedFlag; encrypted && !isKnown(payload.Bytes(), isIndex) {
			t.Errorf("%d bytes come out that nobody has encrypted", payload.Len())
		}
	})
}

// FuzzIndex: an index that does not fit its manifest is an error or finds nothing, or frames that are there.
func FuzzIndex(f *testing.F) {
	from, objects, _ := uploaded(f, nil)
	m, err := from.manifest(f.Context(), Checkpoint{Name: "second"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	index := opened(f, nil, indexMagic, objects[from.key(indexKind, "second")])
	f.Add(index)
	f.Add(index[:len(index)-1])
	f.Add(index[:markKeySize+markSize])
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := nameless(t.TempDir())
		if err == nil {
			_, err = file.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		b, err := openBase(m, file)
		if err != nil {
			expectError(t, "open", err, storage.ErrCorrupt)
			return
		}
		for own, number := range b.pieces {
			if frame, ok := b.piece(own, int(m.frames[number].length)); !ok || frame != number {
				t.Errorf("a piece is in frame %d (%v), want %d", frame, ok, number)
			}
		}
		for _, memory := range b.memory {
			look := &lookup{base: b, memory: memory}
			for _, s := range memory.segments {
				for page := range uint64(s.pages) {
					if number, _, ok := look.find(s.address+page*testPage, testPage); ok {
						memory.extent(number, testPage)
					}
				}
			}
		}
	})
}

// FuzzPagemap: segments that pass the check of manifests lead from pages to addresses and back.
func FuzzPagemap(f *testing.F) {
	for name, image := range memory(1).images() {
		if isPagemap(name) {
			f.Add([]byte(image.data))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, segments, err := parsePagemap(data, testPage)
		if err != nil || len(segments) == 0 {
			return
		}
		if len(segments) > len(data)/4 {
			t.Errorf("%d bytes have %d segments", len(data), len(segments))
		}
		e := &entry{segments: segments}
		for _, s := range segments {
			e.Size += int64(s.pages) * testPage
		}
		m := &manifest{head: head{PageSize: testPage}}
		if e.Size < 0 || m.checkSegments(e) != nil {
			return
		}
		last := e.Size/testPage - 1
		for _, page := range []int64{0, last / 3, last} {
			address := addressesFrom(e, page, testPage).next()
			if number, ok := e.page(address, testPage); !ok || number != page {
				t.Errorf("page %d is at %#x, where page %d is (%v)", page, address, number, ok)
			}
		}
	})
}

// FuzzDecode: a frame whose digest is right comes out with the length that it is said to have, or not at all.
func FuzzDecode(f *testing.F) {
	salt := make([]byte, saltSize)
	aead, err := testKeys.aead(testKeys.current(), salt, purposePack)
	if err != nil {
		f.Fatal(err)
	}
	e, err := newEncoder()
	if err != nil {
		f.Fatal(err)
	}
	for _, content := range []string{text[:100_000], noise(1, 10_000), "x", strings.Repeat("\x00", maxFrame)} {
		for _, with := range []cipher.AEAD{nil, aead} {
			stored, packed := e.encode([]byte(content), with, 0)
			f.Add(bytes.Clone(stored), uint32(len(content)), packed, with != nil)
			f.Add(bytes.Clone(stored), uint32(len(content)-1), packed, with != nil)
		}
	}
	d, err := newDecoder() // one for all, as readers have it
	if err != nil {
		f.Fatal(err)
	}
	good, packed := e.encode([]byte(text[:1000]), nil, 0)
	good = bytes.Clone(good)
	f.Fuzz(func(t *testing.T, stored []byte, length uint32, isPacked, encrypted bool) {
		if length < 1 || length > maxFrame || uint32(len(stored)) > length+maxOverhead {
			return // no manifest may say so
		}
		stored = bytes.Clone(stored)
		var with cipher.AEAD
		if encrypted {
			with = aead
		}
		content, err := d.decode(&frame{length: length, packed: isPacked, digest: blake3.Sum256(stored)}, stored, with)
		switch {
		case err != nil:
			expectError(t, "decode", err, storage.ErrCorrupt)
		case len(content) != int(length):
			t.Errorf("%d bytes come out of a frame of %d", len(content), length)
		}
		if cap(d.content) > maxFrame {
			t.Errorf("it holds %d bytes", cap(d.content))
		}
		content, err = d.decode(&frame{length: 1000, packed: packed, digest: blake3.Sum256(good)}, bytes.Clone(good), nil)
		if err != nil || string(content) != text[:1000] {
			t.Errorf("another frame after it does not come out (%v)", err)
		}
	})
}

// FuzzIntent: an intent is read as it was written, or is corrupt.
func FuzzIntent(f *testing.F) {
	for _, packs := range [][]string{nil, {}, {"first/0011"}, {"a/b", "c/d"}} {
		data, err := json.Marshal(intent{formatVersion, packs})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)-1])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		from := &Folder{Name: testFolder}
		from.Store = &held{objects: map[string][]byte{from.key(intentKind, "c"): data}}
		got, err := from.intents(t.Context())
		if err != nil {
			expectError(t, "intents", err, storage.ErrCorrupt)
			return
		}
		again, err := json.Marshal(intent{formatVersion, got["c"]})
		if err != nil {
			t.Fatal(err)
		}
		from.Store = &held{objects: map[string][]byte{from.key(intentKind, "c"): again}}
		back, err := from.intents(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, back, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("intents (-want +got):\n%s", diff)
		}
	})
}
