package image

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/zeebo/blake3"

	"github.com/transparent-checkpoint/operator/storage"
)

// MaxPack is how many bytes a pack has at most. A store that puts so many in one request needs no buffers of its own.
const MaxPack = 32 << 20

// What a pack may have: so many bytes, of which an encrypted item takes some more than it has.
const (
	packBuffer = MaxPack
	itemSlack  = 8 << 10 // tags of the most frames that an item can have
)

// madePack is a pack that is in the store.
type madePack struct {
	pack
	size   int64
	frames []frame
}

// packer fills packs with frames and sends them. It is used by one goroutine; the uploader has several.
type packer struct {
	u       *uploader
	encoder *encoder
	files   map[int]*os.File // that it has open; of the last entry alone

	buffer []byte // nil between two packs
	give   func([]byte)
	used   int
	salt   []byte
	aead   cipher.AEAD
	frames []frame
	items  []*item // of the pack
	marks  []byte  // of the pages of an item
}

// run works on items until there are no more.
func (p *packer) run(ctx context.Context, items <-chan *item) error {
	defer p.drop()
	for it := range items {
		if err := p.add(ctx, it); err != nil {
			return fmt.Errorf("%q from byte %d on: %w", p.u.m.Entries[it.entry].Path, it.offset, err)
		}
	}
	return p.send(ctx)
}

// drop gives back what it holds after an error.
func (p *packer) drop() {
	for _, file := range p.files {
		_ = file.Close()
	}
	if p.buffer != nil {
		p.give(p.buffer)
		p.buffer = nil
	}
}

var errChanged = fmt.Errorf("the file changed while it was uploaded: %w", storage.ErrInvalid)

// add makes frames of an item.
func (p *packer) add(ctx context.Context, it *item) error {
	file, err := p.open(it.entry)
	if err != nil {
		return err
	}
	if !hasData(file, it.offset, it.length) {
		for left := it.length; left > 0; left -= it.length {
			it.add(part{length: uint32(it.length), from: fromHole})
		}
		if len(p.u.m.Entries[it.entry].segments) == 0 {
			it.marks = make([]mark, len(it.parts))
		}
		p.u.finish(it, 0)
		return nil
	}
	if p.buffer != nil && p.used+itemSlack+int(it.length) > len(p.buffer) {
		if err := p.send(ctx); err != nil {
			return err
		}
	}
	if err := p.begin(ctx); err != nil {
		return err
	}
	raw := p.buffer[p.used:]
	if p.aead != nil {
		raw = raw[itemSlack:]
	}
	raw = raw[:it.length]
	if _, err := file.ReadAt(raw, it.offset); err != nil {
		if errors.Is(err, io.EOF) {
			err = errChanged
		}
		return err
	}
	before := len(p.frames)
	if e := &p.u.m.Entries[it.entry]; len(e.segments) > 0 {
		if err := p.addPages(it, e, raw); err != nil {
			return err
		}
	} else {
		p.addPieces(it, raw)
	}
	if len(p.frames) == before {
		p.u.finish(it, 0)
		return nil
	}
	p.items = append(p.items, it)
	return nil
}

// open returns the file of an entry.
func (p *packer) open(entry int) (*os.File, error) {
	if file := p.files[entry]; file != nil {
		return file, nil
	}
	for _, file := range p.files {
		_ = file.Close()
	}
	file, err := p.u.root.Open(p.u.m.Entries[entry].Path)
	if err != nil {
		p.files = nil
		return nil, err
	}
	info, err := file.Stat()
	if e := &p.u.m.Entries[entry]; err == nil && info.Size() != e.Size && !e.growing {
		err = errChanged
	}
	p.files = map[int]*os.File{entry: file}
	p.encoder.begin()
	return file, err
}

// begin begins a pack, unless there is one.
func (p *packer) begin(ctx context.Context) (err error) {
	if p.buffer != nil {
		return nil
	}
	if p.buffer, p.give, err = p.u.memory.take(ctx); err != nil {
		return err
	}
	p.used, p.frames, p.items, p.salt, p.aead = 0, nil, nil, nil, nil
	if id := p.u.Keys.current(); id != nil {
		p.salt = newSalt()
		p.aead, err = p.u.Keys.aead(id, p.salt, purposePack)
	}
	return err
}

// frame appends a frame with a content, which lies in the buffer behind all that is used of it.
func (p *packer) frame(content []byte) {
	stored, packed := p.encoder.encode(content, p.aead, uint64(p.used))
	p.frames = append(p.frames, frame{
		offset: uint32(p.used), stored: uint32(len(stored)), length: uint32(len(content)), packed: packed, digest: blake3.Sum256(stored),
	})
	if &stored[0] != &p.buffer[p.used] { // it may be where it belongs
		copy(p.buffer[p.used:], stored)
	}
	p.used += len(stored)
}

// addPages finds out which pages are new, brings those together, and makes frames of them.
func (p *packer) addPages(it *item, e *entry, raw []byte) error {
	size := p.u.m.PageSize
	addresses, look := addressesFrom(e, it.offset/int64(size), size), p.u.lookup(e)
	kept := 0
	p.marks = p.marks[:0]
	for at := 0; at < len(raw); at += size {
		page, address := raw[at:at+size], addresses.next()
		if isZero(page) {
			it.add(part{length: uint32(size), from: fromHole})
			p.marks = append(p.marks, make([]byte, markSize)...)
			continue
		}
		own := markOf(page, p.u.markKey)
		p.marks = append(p.marks, own[:]...)
		if x, ok := look.same(address, size, own); ok {
			it.add(part{length: x.length, frame: x.frame, offset: x.offset, from: fromBase})
			it.shared += int64(size)
			continue
		}
		if kept < at {
			copy(raw[kept:], page)
		}
		it.add(part{length: uint32(size), frame: uint32(len(p.frames) + kept/frameContent), offset: uint32(kept % frameContent), from: fromPack})
		kept += size
	}
	if err := p.u.writeMarks(p.marks, p.u.marksAt[it.entry]+it.offset/int64(size)*markSize); err != nil {
		return err
	}
	for at := 0; at < kept; at += frameContent {
		p.frame(raw[at:min(at+frameContent, kept)])
	}
	return nil
}

// addPieces cuts what is no memory into pieces, of which each becomes a frame if it is new.
func (p *packer) addPieces(it *item, raw []byte) {
	for len(raw) > 0 {
		piece := raw[:cut(raw)]
		raw = raw[len(piece):]
		made := part{length: uint32(len(piece)), from: fromHole}
		own := mark{}
		if !isZero(piece) {
			own = markOf(piece, p.u.markKey)
			made.frame, made.from = uint32(len(p.frames)), fromPack
			if frame, ok := p.u.base.piece(own, len(piece)); ok {
				made.frame, made.from = frame, fromBase
				it.shared += int64(len(piece))
			} else {
				p.frame(piece)
			}
		}
		it.parts, it.marks = append(it.parts, made), append(it.marks, own)
	}
}

// send puts the pack into the store, unless it is empty, and gives the buffer back.
func (p *packer) send(ctx context.Context) error {
	if p.buffer == nil || len(p.frames) == 0 {
		p.drop()
		return nil
	}
	hash := blake3.New()
	for i := range p.frames {
		f := &p.frames[i]
		_, _ = fmt.Fprintf(hash, "%x %d %t\n", f.digest, f.length, f.packed) // it never fails
	}
	made := &madePack{size: int64(p.used), frames: p.frames}
	made.Name = path.Join(p.u.name, hex.EncodeToString(hash.Sum(nil)[:idSize]))
	if p.aead != nil {
		made.Key, made.Salt = hex.EncodeToString(p.u.Keys.current()), hex.EncodeToString(p.salt)
	}
	sent := int64(0)
	if p.u.there[made.Name] != made.size { // else an earlier attempt has sent it
		if err := p.put(ctx, made); err != nil {
			return err
		}
		sent = made.size
	}
	for _, it := range p.items {
		it.pack = made
	}
	if err := p.u.journal.packed(made, p.items, p.u.m); err != nil {
		return err
	}
	for i, it := range p.items {
		if i > 0 {
			sent = 0
		}
		p.u.finish(it, sent)
	}
	p.give(p.buffer)
	p.buffer = nil
	return nil
}

// put puts the buffer into the store. A request that failed may still read it, also when another one succeeded; then it is replaced by a new one.
func (p *packer) put(ctx context.Context, made *madePack) error {
	body, requests := storage.Bytes(p.buffer[:p.used]), 0
	open := body.Open
	body.Open = func() (io.ReadCloser, error) {
		requests++
		return open()
	}
	err := p.u.Store.Put(ctx, p.u.key(packKind, made.Name), body, storage.PutOptions{})
	if err != nil || requests > 1 {
		p.buffer = nil
	}
	if err != nil {
		p.give(nil)
	}
	return err
}

var zeros [4096]byte

func isZero(data []byte) bool {
	for len(data) > len(zeros) {
		if !bytes.Equal(data[:len(zeros)], zeros[:]) {
			return false
		}
		data = data[len(zeros):]
	}
	return bytes.Equal(data, zeros[:len(data)])
}

// addresses yields the addresses of pages, in the order of the file.
type addresses struct {
	segments []segment
	page     uint32 // of the first segment
	size     uint64
}

// addressesFrom begins with a page of the file.
func addressesFrom(e *entry, page int64, pageSize int) *addresses {
	a := &addresses{segments: e.segments, size: uint64(pageSize)}
	for page >= int64(a.segments[0].pages) {
		page -= int64(a.segments[0].pages)
		a.segments = a.segments[1:]
	}
	a.page = uint32(page)
	return a
}

func (a *addresses) next() uint64 {
	if a.page == a.segments[0].pages {
		a.segments, a.page = a.segments[1:], 0
	}
	address := a.segments[0].address + uint64(a.page)*a.size
	a.page++
	return address
}
