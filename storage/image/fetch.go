package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/klauspost/compress/s2"

	"github.com/transparent-checkpoint/operator/storage"
)

// PartialSuffix is what Fetch adds to the name of a directory that is not whole yet.
const PartialSuffix = ".partial"

// Fetch makes the directory dir of what is below a prefix. The manifest has to have the given digest, and all else what the manifest says: if
// not, or if a part is missing, the error is storage.ErrCorrupt; without a manifest it is storage.ErrNotExist.
//
// It works in dir.partial, whose parent has to be there, and renames it at the end: dir is there as a whole or not at all. After an error or a
// kill, another Fetch goes on with what dir.partial has, as far as it is right. If dir is there already, it is compared with the manifest and
// left alone. Owners and times are those of the process; nothing is synced to the disk.
func Fetch(ctx context.Context, store storage.Store, prefix, manifestDigest, dir string, opts Options) (Summary, error) {
	summary, err := fetch(ctx, store, prefix, manifestDigest, dir, opts)
	if err != nil {
		return summary, fmt.Errorf("fetch the checkpoint at %q: %w", prefix, err)
	}
	return summary, nil
}

func fetch(ctx context.Context, store storage.Store, prefix, digest, dir string, opts Options) (summary Summary, err error) {
	if err := storage.CheckKey("prefix", prefix); err != nil {
		return summary, err
	}
	m, err := readManifest(ctx, store, prefix, digest)
	if err != nil {
		return summary, err
	}
	summary.ManifestDigest = digest
	for i := range m.Entries {
		if m.Entries[i].Kind == kindFile {
			summary.Files++
			summary.Bytes += m.Entries[i].Size
		}
	}
	f := &fetcher{store: store, prefix: prefix, manifest: m, work: newWork(ctx, opts, m.ChunkSize, summary.Bytes)}
	if _, err := os.Lstat(dir); err == nil {
		return summary, f.in(dir, f.compare)
	}
	partial := dir + PartialSuffix
	if err := os.Mkdir(partial, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return summary, err
	}
	err = f.in(partial, f.fill)
	summary.Sent = f.work.sent
	if err != nil {
		return summary, err
	}
	return summary, os.Rename(partial, dir)
}

type fetcher struct {
	store    storage.Store
	prefix   string
	manifest *manifest
	work     *work
	root     *os.Root // nothing in the directory leads out of it
}

// in opens a directory for do.
func (f *fetcher) in(dir string, do func() error) (err error) {
	if f.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	defer f.root.Close()
	return do()
}

// fill makes everything in the partial directory.
func (f *fetcher) fill() error {
	if err := f.removeStrange(); err != nil {
		return err
	}
	if err := f.work.wait(f.fillEntries()); err != nil {
		return err
	}
	// From the end, so that a directory which may not be written to is closed after all that is in it.
	for i := len(f.manifest.Entries) - 1; i >= 0; i-- {
		e := &f.manifest.Entries[i]
		if err := f.root.Chmod(e.Path, e.perm()); err != nil {
			return err
		}
	}
	return nil
}

func (f *fetcher) fillEntries() error {
	for i := range f.manifest.Entries {
		e := &f.manifest.Entries[i]
		if e.Kind == kindDirectory {
			if err := f.root.Mkdir(e.Path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			continue
		}
		if err := f.fillFile(e); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
	}
	return nil
}

// fillFile starts the fetching of a file's chunks.
func (f *fetcher) fillFile(e *entry) (err error) {
	opened, err := f.root.OpenFile(e.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	file := share(opened)
	defer func() { err = errors.Join(err, file.release()) }()
	if err := opened.Truncate(e.Size); err != nil {
		return err
	}
	for i, name := range e.Chunks {
		offset, size := int64(i)*f.manifest.ChunkSize, e.chunkLength(i, f.manifest.ChunkSize)
		written := hasData(opened, offset, size)
		if !written && name == zeroChunk {
			f.work.count(size, 0)
			continue
		}
		file.use()
		err := f.work.start(size, func(buffer []byte) (int64, error) {
			sent, err := f.fillChunk(file.File, offset, buffer, name, written)
			if err = errors.Join(err, file.release()); err != nil {
				return 0, fmt.Errorf("%q from byte %d on: %w", e.Path, offset, err)
			}
			return sent, nil
		})
		if err != nil {
			return errors.Join(err, file.release())
		}
	}
	return nil
}

// fillChunk writes a chunk to its place, unless it is there. written says that something is.
func (f *fetcher) fillChunk(file *os.File, offset int64, buffer []byte, name string, written bool) (sent int64, err error) {
	if written {
		if is, err := chunkIs(file, offset, buffer, name); err != nil || is {
			return 0, err
		}
	}
	if name == zeroChunk { // of another checkpoint, perhaps
		clear(buffer)
	} else {
		if sent, err = f.get(name, buffer); err != nil {
			return 0, err
		}
	}
	_, err = file.WriteAt(buffer, offset)
	return sent, err
}

// chunkIs says whether a file has a chunk at its place. A file that ends before has it not.
func chunkIs(file *os.File, offset int64, buffer []byte, name string) (bool, error) {
	if n, err := file.ReadAt(buffer, offset); n < len(buffer) {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return false, err
	}
	if name == zeroChunk {
		return isZero(buffer), nil
	}
	return hexDigest(buffer) == strings.TrimSuffix(name, compressed), nil
}

// get reads a chunk from the store, verifies it, and says how many bytes it has there.
func (f *fetcher) get(name string, buffer []byte) (stored int64, err error) {
	digest, isCompressed := strings.CutSuffix(name, compressed)
	if !isCompressed {
		stored, err = f.read(name, buffer)
		if err == nil && stored < int64(len(buffer)) {
			err = fmt.Errorf("chunk %s has %d bytes; it has to have %d: %w", name, stored, len(buffer), storage.ErrCorrupt)
		}
	} else {
		stored, err = f.readCompressed(name, buffer)
	}
	if err != nil {
		return 0, err
	}
	if got := hexDigest(buffer); got != digest {
		return 0, fmt.Errorf("chunk %s has the digest %s: %w", name, got, storage.ErrCorrupt)
	}
	return stored, nil
}

// readCompressed fills the buffer with what a compressed chunk holds.
func (f *fetcher) readCompressed(name string, buffer []byte) (stored int64, err error) {
	scratch := f.work.take(int64(len(buffer))) // it is shorter than what it holds, or would not be compressed
	defer f.work.giveBack(scratch)
	if stored, err = f.read(name, scratch); err != nil {
		return 0, err
	}
	holds, err := s2.DecodedLen(scratch[:stored]) // before anything comes out
	if err == nil && holds != len(buffer) {
		return 0, fmt.Errorf("chunk %s holds %d bytes; it has to hold %d: %w", name, holds, len(buffer), storage.ErrCorrupt)
	}
	if err == nil {
		_, err = s2.Decode(buffer, scratch[:stored])
	}
	if err != nil {
		return 0, fmt.Errorf("chunk %s: %w: %w", name, storage.ErrCorrupt, err)
	}
	return stored, nil
}

// read reads an object that may have as many bytes as the buffer.
func (f *fetcher) read(name string, buffer []byte) (int64, error) {
	body, err := f.store.Get(f.work.ctx, chunkKey(f.prefix, name), storage.Range{})
	if errors.Is(err, storage.ErrNotExist) {
		return 0, fmt.Errorf("a part of the checkpoint is missing: %w: %w", storage.ErrCorrupt, err)
	}
	if err != nil {
		return 0, err
	}
	defer body.Close()
	n, err := io.ReadFull(body, buffer)
	if err == nil {
		var more int
		if more, err = io.ReadFull(body, make([]byte, 1)); more > 0 {
			return 0, fmt.Errorf("chunk %s has more than %d bytes: %w", name, len(buffer), storage.ErrCorrupt)
		}
	}
	switch {
	case f.work.ctx.Err() != nil: // a body that is left may also seem to end
		return 0, f.work.ctx.Err()
	case errors.Is(err, storage.ErrUnavailable): // and so may one whose connection broke
		return 0, err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return int64(n), nil
	}
	return 0, err
}
