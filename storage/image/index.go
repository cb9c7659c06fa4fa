package image

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/minio/highwayhash"

	"github.com/transparent-checkpoint/operator/storage"
)

// mark tells content apart, by a hash with a key that is the same in all of a lineage. The zero mark is none.
type mark [markSize]byte

const (
	markSize    = highwayhash.Size128
	markKeySize = highwayhash.Size
	maxIndex    = 1 << 36 // bytes
)

func markOf(content, key []byte) mark { return highwayhash.Sum128(content, key) }

func newMarkKey() []byte {
	key := make([]byte, markKeySize)
	_, _ = rand.Read(key) // it never fails
	return key
}

// base is a checkpoint of which an upload shares what is the same. Its index lies in a file, so that it takes no memory.
type base struct {
	manifest *manifest
	key      []byte
	index    *os.File
	memory   map[string]*baseMemory // by the path of the map of pages
	pieces   map[mark]uint32        // frames that a piece fills
}

// baseMemory is memory of a process in the base.
type baseMemory struct {
	*entry
	first  []int64 // number of the first page of each segment
	starts []int64 // of the extents
	marks  int64   // where its marks begin in the index, in bytes
}

// openBase makes a base of a manifest, with its index in the file.
func openBase(m *manifest, index *os.File) (*base, error) {
	b := &base{manifest: m, key: make([]byte, markKeySize), index: index, memory: map[string]*baseMemory{}, pieces: map[mark]uint32{}}
	if _, err := index.ReadAt(b.key, 0); err != nil {
		return nil, fmt.Errorf("index: %w: %w", storage.ErrCorrupt, err)
	}
	at := int64(markKeySize)
	for i := range m.Entries {
		e := &m.Entries[i]
		if len(e.segments) == 0 {
			continue
		}
		memory, page := &baseMemory{entry: e, starts: e.starts(), marks: at}, int64(0)
		for _, s := range e.segments {
			memory.first = append(memory.first, page)
			page += int64(s.pages)
		}
		b.memory[e.PageMap] = memory
		at += page * markSize
	}
	r := io.NewSectionReader(index, at, maxIndex)
	var got mark
	for i := range m.Entries {
		e := &m.Entries[i]
		if len(e.segments) > 0 {
			continue
		}
		for _, x := range e.extents {
			if _, err := io.ReadFull(r, got[:]); err != nil {
				return nil, fmt.Errorf("index: %w: %w", storage.ErrCorrupt, err)
			}
			if got != (mark{}) && x.frame != hole && x.offset == 0 && x.length == m.frames[x.frame].length {
				b.pieces[got] = x.frame
			}
		}
	}
	if n, err := r.Read(got[:]); n > 0 || !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("index goes on behind the last mark: %w", storage.ErrCorrupt)
	}
	return b, nil
}

// lookup goes through memory of the base beside that of a new checkpoint, in the order of the addresses.
type lookup struct {
	base    *base
	memory  *baseMemory
	segment int
	marks   []byte // of the pages from page on
	page    int64
}

// lookupBatch is how many marks are read at once.
const lookupBatch = 1024

// find returns the number of the page at the address, and its mark. Calls come with addresses that ascend.
func (l *lookup) find(address uint64, pageSize int) (int64, mark, bool) {
	segments := l.memory.segments
	for l.segment < len(segments) && address >= segments[l.segment].address+uint64(segments[l.segment].pages)*uint64(pageSize) {
		l.segment++
	}
	if l.segment == len(segments) || address < segments[l.segment].address {
		return 0, mark{}, false
	}
	page := l.memory.first[l.segment] + int64((address-segments[l.segment].address)/uint64(pageSize))
	if at := page - l.page; at < 0 || at*markSize >= int64(len(l.marks)) {
		if l.marks == nil {
			l.marks = make([]byte, lookupBatch*markSize)
		}
		l.marks = l.marks[:cap(l.marks)]
		n, err := l.base.index.ReadAt(l.marks, l.memory.marks+page*markSize)
		if err != nil && !errors.Is(err, io.EOF) || n < markSize {
			l.marks, l.page = l.marks[:0], 0
			return 0, mark{}, false // as if the page were new
		}
		l.marks, l.page = l.marks[:n-n%markSize], page
	}
	at := (page - l.page) * markSize
	return page, mark(l.marks[at : at+markSize]), true
}

// extent returns where the base has a page.
func (m *baseMemory) extent(page int64, pageSize int) (extent, bool) {
	offset := page * int64(pageSize)
	i, start := m.find(m.starts, offset)
	x := m.extents[i]
	inside := uint32(offset - start)
	if x.frame == hole || x.length-inside < uint32(pageSize) {
		return extent{}, false
	}
	return extent{uint32(pageSize), x.frame, x.offset + inside}, true
}

// fetchBase gets the base with a manifest from the store. Its index goes to a file that is made in the directory and has no name there.
func (f *Folder) fetchBase(ctx context.Context, checkpoint Checkpoint, m *manifest, dir string) (_ *base, err error) {
	body, err := f.Store.Get(ctx, f.key(indexKind, checkpoint.Name), storage.Range{})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	file, err := nameless(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	hash := sha256.New()
	out := bufio.NewWriterSize(file, 1<<20)
	if err := errors.Join(f.Keys.open(indexMagic, io.TeeReader(io.LimitReader(body, maxIndex), hash), out), out.Flush()); err != nil {
		return nil, err
	}
	if got := digestAlgorithm + hex.EncodeToString(hash.Sum(nil)); got != m.Index {
		return nil, fmt.Errorf("index of %s has the digest %s; it has to be %s: %w", checkpoint.Name, got, m.Index, storage.ErrCorrupt)
	}
	return openBase(m, file)
}

// nameless makes a file that goes when it is closed.
func nameless(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, notes+"-index-*") // a name that no upload takes along, should it stay
	if err != nil {
		return nil, err
	}
	return file, os.Remove(file.Name())
}

// same returns where the base has the page at the address, if that has the mark. Without a base there is none.
func (l *lookup) same(address uint64, pageSize int, own mark) (extent, bool) {
	if l == nil {
		return extent{}, false
	}
	page, has, ok := l.find(address, pageSize)
	if !ok || has != own {
		return extent{}, false
	}
	return l.memory.extent(page, pageSize)
}

// piece returns the frame of the base that has a piece of that mark and length.
func (b *base) piece(own mark, length int) (uint32, bool) {
	if b == nil {
		return 0, false
	}
	frame, ok := b.pieces[own]
	return frame, ok && int(b.manifest.frames[frame].length) == length
}
