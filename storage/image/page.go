package image

import (
	"context"
	"fmt"
	"io"

	"github.com/transparent-checkpoint/operator/storage"
)

// Opened is a checkpoint of which parts can be read, in any order.
type Opened struct {
	reader  *reader
	memory  map[string]*entry // by the path of the map of pages
	starts  map[*entry][]int64
	decoder *decoder
}

// Open reads the manifest of a checkpoint, and nothing else. What it returns is for one goroutine at a time.
func (f *Folder) Open(ctx context.Context, checkpoint Checkpoint) (*Opened, error) {
	r, err := f.reader(ctx, checkpoint, nil)
	if err != nil {
		return nil, fmt.Errorf("open the checkpoint %s of %s: %w", checkpoint.Name, f.Name, err)
	}
	o := &Opened{reader: r, memory: map[string]*entry{}, starts: map[*entry][]int64{}}
	for i := range r.m.Entries {
		if e := &r.m.Entries[i]; len(e.segments) > 0 {
			o.memory[e.PageMap], o.starts[e] = e, e.starts()
		}
	}
	o.decoder, err = newDecoder()
	return o, err
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
