package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

const (
	objects = "objects"
	partial = "partial"
	uploads = "uploads"
)

// Store is a storage.Store in a directory.
type Store struct {
	root *os.Root
}

var _ storage.Store = (*Store)(nil)

// New returns the store in a directory and makes the directory if it is not there. Several processes may use one directory at once. Close
// the store after use.
func New(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store's directory: %w", translate(err))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the store's directory: %w", translate(err))
	}
	for _, name := range []string{objects, partial, uploads} {
		if err := root.MkdirAll(name, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("make %q in the store's directory: %w", name, translate(err)), root.Close())
		}
	}
	return &Store{root: root}, nil
}

// Close frees the directory. Readers that Get returned go on.
func (s *Store) Close() error { return s.root.Close() }

// Put implements storage.Store. Its data is synced before it can be seen.
func (s *Store) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	if err := s.put(ctx, key, body, opts); err != nil {
		return fmt.Errorf("put %q: %w", key, translate(err))
	}
	return nil
}

func (s *Store) put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	if err := storage.CheckKey("key", key); err != nil {
		return err
	}
	if opts.IfAbsent {
		// Only to spare the reading of the body; the link decides.
		if _, err := s.root.Stat(path.Join(objects, key)); err == nil {
			return storage.ErrExist
		}
	}
	tmp, err := s.write(ctx, func(w io.Writer) error { return copyBody(ctx, w, body) })
	if err != nil {
		return err
	}
	return s.publish(tmp, key, opts.IfAbsent)
}

// Get implements storage.Store.
func (s *Store) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	reader, err := s.get(ctx, key, r)
	if err != nil {
		return nil, fmt.Errorf("get %q: %w", key, translate(err))
	}
	return reader, nil
}

func (s *Store) get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	if err := errors.Join(storage.CheckKey("key", key), r.Check()); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, info, err := s.open(path.Join(objects, key))
	if err != nil {
		return nil, err
	}
	if r.Offset > 0 && r.Offset >= info.Size() {
		return nil, errors.Join(fmt.Errorf("range begins at %d; it may begin before the end at %d: %w", r.Offset, info.Size(), storage.ErrInvalid), file.Close())
	}
	length := info.Size() - r.Offset
	if r.Length > 0 {
		length = min(length, r.Length)
	}
	return &reader{Reader: withContext(ctx, io.NewSectionReader(file, r.Offset, length)), Closer: file}, nil
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	info, err := s.stat(ctx, key)
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %q: %w", key, translate(err))
	}
	return storage.Info{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}, nil
}

func (s *Store) stat(ctx context.Context, key string) (fs.FileInfo, error) {
	if err := storage.CheckKey("key", key); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info, err := s.root.Lstat(path.Join(objects, key))
	if err == nil && !info.Mode().IsRegular() {
		return nil, storage.ErrNotExist
	}
	return info, absent(err)
}

// Delete implements storage.Store. It also removes the folders that it leaves empty.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.remove(ctx, key); err != nil {
		return fmt.Errorf("delete %q: %w", key, translate(err))
	}
	return nil
}

func (s *Store) remove(ctx context.Context, key string) error {
	name := path.Join(objects, key)
	_, err := s.stat(ctx, key)
	if err == nil {
		err = s.root.Remove(name)
	}
	if errors.Is(translate(err), storage.ErrNotExist) {
		err = nil
	}
	for dir := path.Dir(name); err == nil && dir != objects; dir = path.Dir(dir) {
		if s.root.Remove(dir) != nil {
			break // not empty: something else lies there
		}
	}
	return err
}

// RemovePartial removes what processes that were killed left behind: files and uploads that were not touched since the given time.
func (s *Store) RemovePartial(ctx context.Context, before time.Time) error {
	for _, dir := range []string{partial, uploads} {
		entries, err := fs.ReadDir(s.root.FS(), dir)
		if err != nil {
			return fmt.Errorf("list %q: %w", dir, translate(err))
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil || !info.ModTime().Before(before) {
				continue // gone by now, or in use
			}
			if err := errors.Join(ctx.Err(), s.root.RemoveAll(path.Join(dir, entry.Name()))); err != nil {
				return fmt.Errorf("remove %q of %q: %w", entry.Name(), dir, translate(err))
			}
		}
	}
	return nil
}

// open opens a regular file.
func (s *Store) open(name string) (*os.File, fs.FileInfo, error) {
	file, err := s.root.Open(name)
	if err != nil {
		return nil, nil, absent(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = storage.ErrNotExist
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, info, nil
}

type reader struct {
	io.Reader
	io.Closer
}
