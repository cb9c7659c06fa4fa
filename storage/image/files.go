package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

// Files returns the files of a checkpoint, to be read for as long as the context lives. Whatever is read was verified before; what is wrong or missing in
// the store is storage.ErrCorrupt. A name that the checkpoint does not have is fs.ErrNotExist.
//
// A file that is open is read from its beginning to its end in large ranges, can be sought in (io.Seeker), and takes a few frames of memory, whatever its
// size. Like the checkpoint, all of its files together are for one goroutine at a time.
func (o *Opened) Files(ctx context.Context) fs.FS {
	all := &files{ctx: ctx, opened: o, entries: map[string]*entry{".": {Path: ".", Kind: kindDirectory, Mode: "0700"}}, below: map[string][]fs.DirEntry{}}
	for i := range o.reader.m.Entries {
		e := &o.reader.m.Entries[i]
		all.entries[e.Path] = e
		all.below[path.Dir(e.Path)] = append(all.below[path.Dir(e.Path)], fs.FileInfoToDirEntry(info{e}))
	}
	return all
}

type files struct {
	ctx     context.Context
	opened  *Opened
	entries map[string]*entry
	below   map[string][]fs.DirEntry // by the path of the directory
}

// Open implements fs.FS.
func (f *files) Open(name string) (fs.File, error) {
	e := f.entries[name]
	switch {
	case !fs.ValidPath(name):
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	case e == nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case e.Kind == kindDirectory:
		return &openDirectory{info: info{e}, rest: f.below[name]}, nil
	}
	return &openFile{info: info{e}, files: f, starts: e.starts(), kept: map[uint32][]byte{}}, nil
}

// info describes an entry.
type info struct{ entry *entry }

func (i info) Name() string               { return path.Base(i.entry.Path) }
func (i info) Size() int64                { return i.entry.Size }
func (i info) ModTime() time.Time         { return time.Unix(0, i.entry.Modified) }
func (i info) IsDir() bool                { return i.entry.Kind == kindDirectory }
func (i info) Sys() any                   { return nil }
func (i info) Stat() (fs.FileInfo, error) { return i, nil }

func (i info) Mode() fs.FileMode {
	if i.IsDir() {
		return i.entry.mode() | fs.ModeDir
	}
	return i.entry.mode()
}

type openDirectory struct {
	info
	rest []fs.DirEntry
}

func (d *openDirectory) Close() error { return nil }

func (d *openDirectory) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.entry.Path, Err: errors.New("it is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDirectory) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.rest) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.rest) {
		n = len(d.rest)
	}
	next := d.rest[:n:n]
	d.rest = d.rest[n:]
	return next, nil
}

// What an open file holds, and how far it looks ahead.
const (
	keptFrames = 8    // as they come out: those of a base and of the checkpoint itself may take turns, page by page
	lookAhead  = 4096 // extents that may be read in one range
)

type openFile struct {
	info
	files  *files
	starts []int64 // of the extents
	at     int64   // the next byte

	kept   map[uint32][]byte // contents of frames, by their numbers
	order  []uint32          // of those, the oldest first
	stored []byte

	body io.ReadCloser // of a range of a pack; nil if there is none
	pack uint32
	next int64 // byte of the pack that the body gives next
	end  int64 // of the range
}

func (f *openFile) Close() error {
	if f.body == nil {
		return nil
	}
	body := f.body
	f.body = nil
	return body.Close()
}

// Seek implements io.Seeker.
func (f *openFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.entry.Size
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.entry.Path, Err: fs.ErrInvalid}
	}
	f.at = offset
	return offset, nil
}

// Read reads up to the end of an extent.
func (f *openFile) Read(p []byte) (int, error) {
	if f.at >= f.entry.Size {
		return 0, io.EOF
	}
	i, start := f.entry.find(f.starts, f.at)
	x := f.entry.extents[i]
	inside := uint32(f.at - start)
	p = p[:min(len(p), int(x.length-inside))]
	if x.frame == hole {
		clear(p)
	} else {
		content, err := f.content(i)
		if err != nil {
			return 0, &fs.PathError{Op: "read", Path: f.entry.Path, Err: err}
		}
		copy(p, content[x.offset+inside:])
	}
	f.at += int64(len(p))
	return len(p), nil
}

// content returns what the frame of an extent holds.
func (f *openFile) content(i int) ([]byte, error) {
	number := f.entry.extents[i].frame
	if content, ok := f.kept[number]; ok {
		return content, nil
	}
	r := f.files.opened.reader
	frame := &r.m.frames[number]
	name := r.m.Packs[frame.pack].Name
	if err := f.readStored(i, frame); err != nil {
		return nil, err
	}
	aead, err := r.aeadOf(frame.pack)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", name, err)
	}
	content, err := f.files.opened.decoder.decode(frame, f.stored, aead)
	if err != nil {
		return nil, fmt.Errorf("pack %s: frame at byte %d: %w", name, frame.offset, err)
	}
	var room []byte
	if len(f.order) == keptFrames {
		room = f.kept[f.order[0]]
		delete(f.kept, f.order[0])
		f.order = f.order[1:]
	}
	f.kept[number], f.order = append(room[:0], content...), append(f.order, number)
	return f.kept[number], nil
}

// readStored reads the frame of an extent as it lies in its pack: from the range that is being read, or from a new one that begins there.
func (f *openFile) readStored(i int, frame *frame) error {
	r, at := f.files.opened.reader, int64(frame.offset)
	if f.body == nil || f.pack != frame.pack || at < f.next || at > f.next+maxGap || at+int64(frame.stored) > f.end {
		if err := f.openRange(i, frame); err != nil {
			return err
		}
	}
	name := r.m.Packs[frame.pack].Name
	f.stored = slices.Grow(f.stored[:0], int(frame.stored))[:frame.stored]
	_, err := io.CopyN(io.Discard, f.body, at-f.next)
	if err == nil {
		_, err = io.ReadFull(f.body, f.stored)
	}
	if err != nil {
		return errors.Join(r.broken(f.files.ctx, name, at, err), f.Close())
	}
	f.next = at + int64(frame.stored)
	return nil
}

// openRange begins to read the frame of an extent, and those behind it in the pack that the file goes on with.
func (f *openFile) openRange(i int, frame *frame) error {
	_ = f.Close() // nothing was written to it
	r, first := f.files.opened.reader, int64(frame.offset)
	f.pack, f.next, f.end = frame.pack, first, first+int64(frame.stored)
	last := f.entry.extents[i].frame
	for _, x := range f.entry.extents[i+1 : min(len(f.entry.extents), i+lookAhead)] {
		if x.frame == hole || x.frame == last {
			continue
		}
		next := &r.m.frames[x.frame]
		stop := int64(next.offset) + int64(next.stored)
		if next.pack != frame.pack || int64(next.offset) < f.end || int64(next.offset) > f.end+maxGap || stop-first > maxSpan {
			break
		}
		last, f.end = x.frame, stop
	}
	body, err := r.openPack(f.files.ctx, r.m.Packs[frame.pack].Name, storage.Range{Offset: first, Length: f.end - first})
	if err != nil {
		return err
	}
	f.body = body
	return nil
}
