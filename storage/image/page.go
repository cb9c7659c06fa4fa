package image

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/transparent-checkpoint/operator/storage"
)

// Opened is a checkpoint of which parts can be read, in any order.
type Opened struct {
	// Checkpoint is which one it is.
	Checkpoint Checkpoint
	// Bytes is how many all of its files have together, holes included.
	Bytes int64

	reader  *reader
	memory  map[string]*entry // by the path of the map of pages
	starts  map[*entry][]int64
	decoder *decoder
}

// Open reads the manifest of a checkpoint, and nothing else. What it returns is for one goroutine at a time.
func (f *Folder) Open(ctx context.Context, checkpoint Checkpoint) (*Opened, error) {
	r, err := f.reader(ctx, checkpoint, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("open the checkpoint %s of %s: %w", checkpoint.Name, f.Name, err)
	}
	return r.open(checkpoint)
}

// Discover opens the checkpoint of that name, whatever its digest is: for who finds checkpoints in a store and has nobody to tell their digests. So it
// trusts whoever can write to the store, unless the folder has keys: then a manifest that is not encrypted with one of them is storage.ErrCorrupt.
func (f *Folder) Discover(ctx context.Context, name string) (*Opened, error) {
	o, err := f.discover(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open the checkpoint %s of %s: %w", name, f.Name, err)
	}
	return o, nil
}

func (f *Folder) discover(ctx context.Context, name string) (*Opened, error) {
	if err := f.check(name); err != nil {
		return nil, err
	}
	data, err := f.get(ctx, f.key(manifestKind, name), maxManifestSize, nil)
	if err != nil {
		return nil, err
	}
	checkpoint := Checkpoint{Name: name, Digest: digestOf(data)}
	if len(f.Keys) > 0 && !isEncrypted(data) {
		return nil, fmt.Errorf("manifest %s is not encrypted, and there are keys: %w", name, storage.ErrCorrupt)
	}
	m, err := f.parse(name, data)
	if err != nil {
		return nil, err
	}
	return f.readerOf(m, checkpoint, nil).open(checkpoint)
}

// open makes what a reader has read of a manifest ready to be asked for parts.
func (r *reader) open(checkpoint Checkpoint) (*Opened, error) {
	o := &Opened{Checkpoint: checkpoint, Bytes: r.summary.Bytes, reader: r, memory: map[string]*entry{}, starts: map[*entry][]int64{}}
	for i := range r.m.Entries {
		if e := &r.m.Entries[i]; len(e.segments) > 0 {
			o.memory[e.PageMap], o.starts[e] = e, e.starts()
		}
	}
	var err error
	o.decoder, err = newDecoder()
	return o, err
}

// ReadFile returns what a file has, of at most so many bytes. It reads the frames of that file alone. That there is no such file is storage.ErrNotExist, and
// that it has more is storage.ErrInvalid.
func (o *Opened) ReadFile(ctx context.Context, path string, most int64) ([]byte, error) {
	i := slices.IndexFunc(o.reader.m.Entries, func(e entry) bool { return e.Path == path && e.Kind == kindFile })
	if i < 0 {
		return nil, fmt.Errorf("file %q: %w", path, storage.ErrNotExist)
	}
	e := &o.reader.m.Entries[i]
	if e.Size > most {
		return nil, fmt.Errorf("file %q has %d bytes; it may have %d: %w", path, e.Size, most, storage.ErrInvalid)
	}
	data := make([]byte, 0, e.Size)
	for _, x := range e.extents {
		if x.frame == hole {
			data = append(data, make([]byte, x.length)...)
			continue
		}
		content, err := o.frame(ctx, &o.reader.m.frames[x.frame])
		if err != nil {
			return nil, fmt.Errorf("file %q: %w", path, err)
		}
		data = append(data, content[x.offset:][:x.length]...)
	}
	return data, nil
}

// Page returns the page that has an address in the memory whose map of pages is the file of that path. It reads one frame. That there is no such page, or
// no such memory, is storage.ErrNotExist.
func (o *Opened) Page(ctx context.Context, pagemap string, address uint64) ([]byte, error) {
	e, size := o.memory[pagemap], o.reader.m.PageSize
	if e == nil {
		return nil, fmt.Errorf("memory with the map %q: %w", pagemap, storage.ErrNotExist)
	}
	number, ok := e.page(address, size)
	if !ok {
		return nil, fmt.Errorf("page at %#x of %q: %w", address, pagemap, storage.ErrNotExist)
	}
	page := make([]byte, 0, size)
	for len(page) < size { // a page may lie in more than one extent, though no writer does that
		offset := number*int64(size) + int64(len(page))
		i, start := e.find(o.starts[e], offset)
		x := e.extents[i]
		inside := uint32(offset - start)
		length := min(x.length-inside, uint32(size-len(page)))
		if x.frame == hole {
			page = append(page, make([]byte, length)...)
			continue
		}
		content, err := o.frame(ctx, &o.reader.m.frames[x.frame])
		if err != nil {
			return nil, err
		}
		page = append(page, content[x.offset+inside:][:length]...)
	}
	return page, nil
}

// frame reads a frame.
func (o *Opened) frame(ctx context.Context, f *frame) ([]byte, error) {
	aead, err := o.reader.aeadOf(f.pack)
	if err != nil {
		return nil, err
	}
	name := o.reader.m.Packs[f.pack].Name
	body, err := o.reader.openPack(ctx, name, storage.Range{Offset: int64(f.offset), Length: int64(f.stored)})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	stored := make([]byte, f.stored)
	if _, err := io.ReadFull(body, stored); err != nil {
		return nil, o.reader.broken(ctx, name, int64(f.offset), err)
	}
	content, err := o.decoder.decode(f, stored, aead)
	if err != nil {
		return nil, fmt.Errorf("pack %s: frame at byte %d: %w", name, f.offset, err)
	}
	return content, nil
}
