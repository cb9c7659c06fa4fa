package image

import (
	"cmp"
	"context"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/storage"
)

// PartialSuffix is what Fetch adds to the name of a directory that is not whole yet.
const PartialSuffix = ".partial"

// Fetch makes the directory dir of a checkpoint. The manifest has to have the given digest, and all else what the manifest says: if not, or if a part is
// missing, the error is storage.ErrCorrupt; without a manifest it is storage.ErrNotExist.
//
// It works in dir.partial, whose parent has to be there, and renames it at the end: dir is there as a whole or not at all. After an error or a kill,
// another Fetch goes on with what dir.partial has, unless the machine was started anew meanwhile. If dir is there already, that is storage.ErrExist.
// Nothing is synced to the disk. Owners are set by root alone.
func (f *Folder) Fetch(ctx context.Context, checkpoint Checkpoint, dir string, progress Progress) (Summary, error) {
	summary, err := f.fetch(ctx, checkpoint, dir, progress)
	if err != nil {
		return summary, fmt.Errorf("fetch the checkpoint %s of %s: %w", checkpoint.Name, f.Name, err)
	}
	return summary, nil
}

func (f *Folder) fetch(ctx context.Context, checkpoint Checkpoint, dir string, progress Progress) (Summary, error) {
	tables := f.memory().tables(down)
	defer tables.give()
	r, err := f.reader(ctx, checkpoint, tables, progress)
	if err != nil {
		return Summary{}, err
	}
	if _, err := os.Lstat(dir); err == nil {
		return r.summary, fmt.Errorf("%s: %w", dir, storage.ErrExist)
	}
	partial := dir + PartialSuffix
	err = r.intoPartial(ctx, partial)
	if errors.Is(err, errTorn) {
		r.done, r.summary.Sent = 0, 0
		if err = discard(partial); err == nil {
			err = r.intoPartial(ctx, partial)
		}
	}
	if err != nil {
		return r.summary, err
	}
	return r.summary, os.Rename(partial, dir)
}

// intoPartial makes everything in a directory that is not whole before.
func (r *reader) intoPartial(ctx context.Context, partial string) (err error) {
	if r.fetched, err = openFetched(partial, r.summary.ManifestDigest); err != nil {
		return err
	}
	defer r.fetched.file.Close()
	root, err := os.OpenRoot(partial) // nothing in the directory leads out of it
	if err != nil {
		return err
	}
	defer root.Close()
	if err := r.into(ctx, root); err != nil {
		return err
	}
	return r.fetched.remove()
}

// reader checks the names and reads the manifest.
func (f *Folder) reader(ctx context.Context, checkpoint Checkpoint, tables *tables, progress Progress) (*reader, error) {
	if err := f.check(checkpoint.Name); err != nil {
		return nil, err
	}
	if !isDigest(checkpoint.Digest) {
		return nil, fmt.Errorf("digest of the manifest is %q; it may be %q and %d hexadecimal digits: %w",
			checkpoint.Digest, digestAlgorithm, digestDigits, storage.ErrInvalid)
	}
	m, err := f.manifest(ctx, checkpoint, tables)
	if err != nil {
		return nil, err
	}
	if has := m.content(); f.Most > 0 && has > f.Most {
		return nil, fmt.Errorf("its files have %d bytes; they may have %d: %w", has, f.Most, storage.ErrCorrupt)
	}
	return f.readerOf(m, checkpoint, progress), nil
}

// content returns how many bytes the files have that are no holes.
func (m *manifest) content() (bytes int64) {
	for i := range m.Entries {
		for _, extent := range m.Entries[i].extents {
			if extent.frame != hole {
				bytes += int64(extent.length)
			}
		}
	}
	return bytes
}

func (f *Folder) readerOf(m *manifest, checkpoint Checkpoint, progress Progress) *reader {
	r := &reader{Folder: f, m: m, budget: f.memory(), progress: progress, summary: Summary{ManifestDigest: checkpoint.Digest}}
	for i := range m.Entries {
		if m.Entries[i].Kind == kindFile {
			r.summary.Files++
			r.summary.Bytes += m.Entries[i].Size
		}
	}
	return r
}

// reader brings the frames of a checkpoint to where they belong.
type reader struct {
	*Folder
	m      *manifest
	budget *Memory
	uses   []use      // in the order of the packs
	files  []*os.File // of the entries; without them all is only verified

	fetched *fetched // nil where all is only verified
	damaged *damaged // takes what is not as it was written; nil where that is an error

	mu       sync.Mutex
	progress Progress
	done     int64
	summary  Summary
}

// use is an extent, seen from its frame.
type use struct {
	frame  uint32
	offset uint32 // in the frame
	length uint32
	entry  uint32
	at     int64 // in the file
}

const (
	maxSpan   = 8 << 20   // bytes of a pack that are read at once
	maxGap    = 128 << 10 // bytes that are read for nothing rather than to ask again
	maxOpened = 512       // files that are open at once
)

// into makes everything in a directory.
func (r *reader) into(ctx context.Context, root *os.Root) error {
	// Few files have most of the bytes. Beyond that many, files are filled in several rounds.
	for first := 0; first < len(r.m.Entries); {
		last := min(first+maxOpened, len(r.m.Entries))
		if err := r.fill(ctx, root, first, last); err != nil {
			return err
		}
		first = last
	}
	return r.attributes(root)
}

// fill makes the entries from first to last, the latter excluded.
func (r *reader) fill(ctx context.Context, root *os.Root, first, last int) (err error) {
	r.files = make([]*os.File, len(r.m.Entries))
	defer func() {
		for _, file := range r.files {
			if file != nil {
				err = errors.Join(err, file.Close())
			}
		}
	}()
	for i := first; i < last; i++ {
		e := &r.m.Entries[i]
		if e.Kind == kindDirectory {
			err := root.Mkdir(e.Path, 0o700)
			if errors.Is(err, fs.ErrExist) && !r.fetched.isNew {
				err = root.Chmod(e.Path, 0o700)
			}
			if err != nil {
				return err
			}
			continue
		}
		if r.files[i], err = r.create(root, e.Path, first); err != nil {
			return err
		}
		if err := e.allocate(r.files[i]); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
	}
	return r.read(ctx, first, last)
}

// create makes a file, or opens what an earlier Fetch has made of it.
func (r *reader) create(root *os.Root, path string, first int) (*os.File, error) {
	file, err := root.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil && r.fetched.began(first) {
		return nil, errors.Join(errTorn, file.Close())
	}
	if !errors.Is(err, fs.ErrExist) || r.fetched.isNew {
		return file, err
	}
	if err := root.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return root.OpenFile(path, os.O_RDWR, 0)
}

// allocate gives a file its size, and room on the disk for all but the holes.
func (e *entry) allocate(file *os.File) error {
	if err := file.Truncate(e.Size); err != nil {
		return err
	}
	at, from := int64(0), int64(-1)
	for i := 0; i <= len(e.extents); i++ {
		isHole := i == len(e.extents) || e.extents[i].frame == hole
		switch {
		case isHole && from >= 0:
			if err := unix.Fallocate(int(file.Fd()), 0, from, at-from); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return err
			}
			from = -1
		case !isHole && from < 0:
			from = at
		}
		if i < len(e.extents) {
			at += int64(e.extents[i].length)
		}
	}
	return nil
}

// attributes gives everything its owner, mode, times and extended attributes: from the end, so that a directory which may not be written to is closed
// after all that is in it.
func (r *reader) attributes(root *os.Root) error {
	for i := len(r.m.Entries) - 1; i >= 0; i-- {
		e := &r.m.Entries[i]
		var err error
		if os.Geteuid() == 0 {
			err = root.Lchown(e.Path, e.UID, e.GID)
		}
		for name, value := range e.XAttrs {
			err = errors.Join(err, unix.Lsetxattr(filepath.Join(root.Name(), e.Path), name, value, 0))
		}
		modified := time.Unix(0, e.Modified)
		if err = errors.Join(err, root.Chmod(e.Path, e.mode()), root.Chtimes(e.Path, modified, modified)); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
	}
	return nil
}

// read reads what the entries from first to last consist of.
func (r *reader) read(ctx context.Context, first, last int) error {
	r.collectUses(first, last)
	type span struct {
		place
		uses []use
	}
	spans := make(chan span)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(spans)
		number := 0
		for rest := r.uses; len(rest) > 0; number++ {
			next := span{place{first, number}, rest[:r.spanOf(rest)]}
			rest = rest[len(next.uses):]
			if r.fetched.has(next.place) {
				r.skip(next.uses)
				continue
			}
			select {
			case spans <- next:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(r.budget.gets.Places(), len(r.uses)) {
		group.Go(func() error {
			decoder, err := newDecoder()
			if err != nil {
				return err
			}
			defer decoder.zstd.Close()
			buffer := make([]byte, maxFrame+maxOverhead)
			for next := range spans {
				err := r.readSpan(ctx, next.uses, decoder, buffer)
				if r.damaged != nil && errors.Is(err, storage.ErrCorrupt) {
					err = r.narrow(ctx, next.uses, decoder, buffer)
				}
				if err == nil {
					err = r.fetched.note(next.place)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// collectUses sorts the extents by their place in the packs. Holes are there already.
func (r *reader) collectUses(first, last int) {
	r.uses = nil
	holes := int64(0)
	for i := first; i < last; i++ {
		at := int64(0)
		for _, x := range r.m.Entries[i].extents {
			if x.frame == hole {
				holes += int64(x.length)
			} else {
				r.uses = append(r.uses, use{x.frame, x.offset, x.length, uint32(i), at})
			}
			at += int64(x.length)
		}
	}
	slices.SortFunc(r.uses, func(a, b use) int {
		x, y := &r.m.frames[a.frame], &r.m.frames[b.frame]
		return cmp.Or(cmp.Compare(x.pack, y.pack), cmp.Compare(x.offset, y.offset), cmp.Compare(a.frame, b.frame), cmp.Compare(a.offset, b.offset))
	})
	r.count(holes, 0)
}

// spanOf returns how many of the uses lie in the next range to read.
func (r *reader) spanOf(uses []use) int {
	first := &r.m.frames[uses[0].frame]
	end := int64(first.offset) + int64(first.stored)
	for n := 1; n < len(uses); n++ {
		if uses[n].frame == uses[n-1].frame {
			continue
		}
		next := &r.m.frames[uses[n].frame]
		stop := int64(next.offset) + int64(next.stored)
		if next.pack != first.pack || int64(next.offset) < end || int64(next.offset) > end+maxGap || stop-int64(first.offset) > maxSpan {
			return n
		}
		end = stop
	}
	return len(uses)
}

// readSpan reads a range of a pack and writes what its frames hold to where it belongs.
func (r *reader) readSpan(ctx context.Context, span []use, d *decoder, buffer []byte) error {
	done, err := r.budget.read(ctx)
	if err != nil {
		return err
	}
	defer done()
	first, last := &r.m.frames[span[0].frame], &r.m.frames[span[len(span)-1].frame]
	name := r.m.Packs[first.pack].Name
	aead, err := r.aeadOf(first.pack)
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	at, end := int64(first.offset), int64(last.offset)+int64(last.stored)
	body, err := r.openPack(ctx, name, storage.Range{Offset: at, Length: end - at})
	if err != nil {
		return err
	}
	defer body.Close()
	for rest := span; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].frame == rest[0].frame {
			n++
		}
		f := &r.m.frames[rest[0].frame]
		if _, err := io.CopyN(io.Discard, body, int64(f.offset)-at); err != nil {
			return r.broken(ctx, name, at, err)
		}
		stored := buffer[:f.stored]
		if _, err := io.ReadFull(body, stored); err != nil {
			return r.broken(ctx, name, int64(f.offset), err)
		}
		at = int64(f.offset) + int64(f.stored)
		content, err := d.decode(f, stored, aead)
		if err != nil {
			return fmt.Errorf("pack %s: frame at byte %d: %w", name, f.offset, err)
		}
		if err := r.write(rest[:n], content, int64(f.stored)); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// openPack begins to read a range of a pack.
func (r *reader) openPack(ctx context.Context, name string, part storage.Range) (io.ReadCloser, error) {
	body, err := r.Store.Get(ctx, r.key(packKind, name), part)
	if errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrInvalid) { // gone, or shorter than it was
		return nil, fmt.Errorf("pack %s is missing or too short: %w: %w", name, storage.ErrCorrupt, err)
	}
	return body, err
}

// aeadOf returns the cipher of a pack; nil if it is not encrypted.
func (r *reader) aeadOf(number uint32) (cipher.AEAD, error) {
	p := &r.m.Packs[number]
	if p.Key == "" {
		return nil, nil
	}
	id, _ := hex.DecodeString(p.Key) // the check of the manifest has done the same
	salt, _ := hex.DecodeString(p.Salt)
	return r.Keys.aead(id, salt, purposePack)
}

// broken says what a body that ended too early means.
func (r *reader) broken(ctx context.Context, name string, at int64, err error) error {
	switch {
	case ctx.Err() != nil: // a body that is left may also seem to end
		return ctx.Err()
	case endsEarly(err):
		return fmt.Errorf("pack %s ends before byte %d: %w", name, at, storage.ErrCorrupt)
	}
	return err
}

// write writes a frame's content to all places where it belongs.
func (r *reader) write(uses []use, content []byte, stored int64) error {
	written := int64(0)
	for i := 0; i < len(uses); i++ {
		u := uses[i]
		written += int64(u.length)
		if r.files == nil {
			continue
		}
		if _, err := r.files[u.entry].WriteAt(content[u.offset:u.offset+u.length], u.at); err != nil {
			return err
		}
	}
	r.count(written, stored)
	return nil
}

// skip counts what is in its place already.
func (r *reader) skip(uses []use) {
	length := int64(0)
	for _, u := range uses {
		length += int64(u.length)
	}
	r.count(length, 0)
}

// count notes what is done.
func (r *reader) count(written, sent int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += written
	r.summary.Sent += sent
	if r.progress != nil && written > 0 {
		r.progress(r.done, r.summary.Bytes)
	}
}

// Verify reads everything of a checkpoint and compares it with the manifest, as Fetch does, and writes nothing.
func (f *Folder) Verify(ctx context.Context, checkpoint Checkpoint, progress Progress) (Summary, error) {
	tables := f.memory().tables(down)
	defer tables.give()
	r, err := f.reader(ctx, checkpoint, tables, progress)
	if err == nil {
		err = r.read(ctx, 0, len(r.m.Entries))
	}
	if err != nil {
		return Summary{}, fmt.Errorf("verify the checkpoint %s of %s: %w", checkpoint.Name, f.Name, err)
	}
	return r.summary, nil
}
