package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/transparent-checkpoint/operator/storage"
)

// Upload stores a directory below a prefix, which is a key. What lies at its top under a name that begins with "agent" is left out. The rest may
// be regular files and directories; anything else is storage.ErrInvalid, and the directory must not change meanwhile. The checkpoint is there
// when the manifest is, which is put last. After an error or a kill, another Upload of the same directory sends only what is missing.
func Upload(ctx context.Context, store storage.Store, prefix, dir string, opts Options) (Summary, error) {
	u := &uploader{store: store, prefix: prefix, manifest: manifest{Format: formatName, Version: formatVersion}}
	u.manifest.ChunkSize = cmp.Or(opts.chunkSize, ChunkSize)
	summary, err := u.run(ctx, dir, opts)
	if err != nil {
		return summary, fmt.Errorf("upload %s: %w", dir, err)
	}
	return summary, nil
}

type uploader struct {
	store    storage.Store
	prefix   string
	root     *os.Root
	manifest manifest
	work     *work

	mu sync.Mutex
	// stored are the names of the chunks in the store, or on their way to it, and their sizes there.
	stored map[string]int64
}

func (u *uploader) run(ctx context.Context, dir string, opts Options) (summary Summary, err error) {
	if err := storage.CheckKey("prefix", u.prefix); err != nil {
		return summary, err
	}
	if u.root, err = os.OpenRoot(dir); err != nil {
		return summary, err
	}
	defer u.root.Close()
	if err := u.survey(); err != nil {
		return summary, err
	}
	for i := range u.manifest.Entries {
		if u.manifest.Entries[i].Kind == kindFile {
			summary.Files++
			summary.Bytes += u.manifest.Entries[i].Size
		}
	}
	if err := u.listStored(ctx); err != nil {
		return summary, err
	}
	u.work = newWork(ctx, opts, u.manifest.ChunkSize, summary.Bytes)
	err = u.work.wait(u.sendFiles())
	summary.Sent = u.work.sent
	if err != nil {
		return summary, err
	}
	data, digest, err := u.manifest.encode()
	if err != nil {
		return summary, err
	}
	summary.ManifestDigest = digest
	return summary, u.store.Put(ctx, path.Join(u.prefix, manifestName), storage.Bytes(data), storage.PutOptions{})
}

// survey writes what is in the directory into the manifest, but for the chunks.
func (u *uploader) survey() error {
	return fs.WalkDir(u.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case isAgentNote(name):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := storage.CheckKey("path", name); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{Path: name, Mode: encodeMode(info.Mode())}
		switch {
		case d.IsDir():
			e.Kind = kindDirectory
		case d.Type().IsRegular():
			e.Kind, e.Size = kindFile, info.Size()
			e.Chunks = make([]string, (e.Size+u.manifest.ChunkSize-1)/u.manifest.ChunkSize)
		default:
			return fmt.Errorf("%q is %s; it may be a regular file or a directory: %w", name, d.Type(), storage.ErrInvalid)
		}
		u.manifest.Entries = append(u.manifest.Entries, e)
		return nil
	})
}

// listStored finds out what an earlier attempt has sent.
func (u *uploader) listStored(ctx context.Context) error {
	u.stored = map[string]int64{}
	folder := path.Join(u.prefix, dataFolder) + "/"
	for info, err := range u.store.List(ctx, folder, "") {
		if err != nil {
			return err
		}
		u.stored[strings.TrimPrefix(info.Key, folder)] = info.Size
	}
	return nil
}

func (u *uploader) sendFiles() error {
	for i := range u.manifest.Entries {
		if e := &u.manifest.Entries[i]; e.Kind == kindFile && e.Size > 0 {
			if err := u.sendFile(e); err != nil {
				return fmt.Errorf("%q: %w", e.Path, err)
			}
		}
	}
	return nil
}

var errChanged = fmt.Errorf("the file changed its size while it was uploaded: %w", storage.ErrInvalid)

// sendFile starts the sending of a file's chunks.
func (u *uploader) sendFile(e *entry) (err error) {
	opened, err := u.root.Open(e.Path)
	if err != nil {
		return err
	}
	file := share(opened)
	defer func() { err = errors.Join(err, file.release()) }()
	// Behind its end a file looks like a hole.
	if info, err := opened.Stat(); err != nil || info.Size() != e.Size {
		return errors.Join(err, errChanged)
	}
	for i := range e.Chunks {
		offset, size := int64(i)*u.manifest.ChunkSize, e.chunkLength(i, u.manifest.ChunkSize)
		if !hasData(opened, offset, size) {
			u.work.count(size, 0)
			continue
		}
		file.use()
		err := u.work.start(size, func(buffer []byte) (sent int64, err error) {
			e.Chunks[i], sent, err = u.sendChunk(file.File, offset, buffer)
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

// sendChunk reads a chunk into the buffer and puts it, unless it is all zero or there already. It returns the chunk's name.
func (u *uploader) sendChunk(file *os.File, offset int64, buffer []byte) (name string, sent int64, err error) {
	if n, err := file.ReadAt(buffer, offset); n < len(buffer) {
		if errors.Is(err, io.EOF) {
			err = errChanged
		}
		return "", 0, err
	}
	if isZero(buffer) {
		return zeroChunk, 0, nil
	}
	digest := hexDigest(buffer)
	if name, there := u.find(digest, int64(len(buffer))); there {
		return name, 0, nil
	}
	scratch := u.work.take(int64(len(buffer)))
	name, data := digest, buffer
	if shorter := s2.Encode(scratch[:cap(scratch)], buffer); len(shorter) <= mostCompressed(len(buffer)) {
		name, data = digest+compressed, shorter
	}
	u.mu.Lock()
	_, there := u.stored[name]        // another of that content may have come first
	u.stored[name] = int64(len(data)) // if the put fails, so does the Upload
	u.mu.Unlock()
	if !there {
		sent, err = int64(len(data)), u.store.Put(u.work.ctx, chunkKey(u.prefix, name), storage.Bytes(data), storage.PutOptions{})
	}
	if err == nil {
		u.work.giveBack(scratch)
	}
	return name, sent, err
}

// mostCompressed is the size up to which it pays to store size bytes compressed.
func mostCompressed(size int) int { return size - size/8 - 1 }

// find looks for a chunk of size bytes in the store. One of a size that cannot be right is forgotten, and so put again.
func (u *uploader) find(digest string, size int64) (name string, there bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if stored, there := u.stored[digest]; there {
		if stored == size {
			return digest, true
		}
		delete(u.stored, digest)
	}
	_, there = u.stored[digest+compressed]
	return digest + compressed, there
}
