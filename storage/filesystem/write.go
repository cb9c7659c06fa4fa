package filesystem

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/transparent-checkpoint/operator/storage"
)

// write makes a file below partial of what fill writes, synced, and returns its name. It leaves no file when it fails.
func (s *Store) write(ctx context.Context, fill func(io.Writer) error) (name string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	name = path.Join(partial, rand.Text())
	file, err := s.root.Create(name)
	if err != nil {
		return "", err
	}
	err = fill(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(err, s.root.Remove(name))
	}
	return name, nil
}

func copyBody(ctx context.Context, w io.Writer, body storage.Body) error {
	r, err := body.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	return copyAll(ctx, w, r)
}

// copyAll copies until the end of r or of the context.
func copyAll(ctx context.Context, w io.Writer, r io.Reader) error {
	// Without the struct, a file would read for itself, 32 KiB at a time.
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, withContext(ctx, r), make([]byte, 256<<10))
	return err
}

// publish gives a file below partial the name of a key and syncs the folders above it. Afterwards nothing is left below partial.
func (s *Store) publish(tmp, key string, ifAbsent bool) error {
	name := path.Join(objects, key)
	err := s.rename(tmp, name, ifAbsent)
	if ifAbsent || err != nil {
		err = errors.Join(err, s.root.Remove(tmp))
	}
	for dir := path.Dir(name); err == nil && dir != "."; dir = path.Dir(dir) {
		err = s.sync(dir)
	}
	return err
}

// rename tries a few times, since a Delete may remove the folder in between.
func (s *Store) rename(tmp, name string, ifAbsent bool) error {
	for attempt := 0; ; attempt++ {
		err := clash(s.root.MkdirAll(path.Dir(name), 0o700))
		switch {
		case err != nil:
		case ifAbsent:
			err = s.root.Link(tmp, name)
		default:
			err = clash(s.root.Rename(tmp, name))
		}
		if !errors.Is(err, fs.ErrNotExist) || attempt == 9 {
			return err
		}
	}
}

// clash makes ErrInvalid of the error that a folder of the key is an object, or the key itself a folder.
func clash(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("one key is the folder of another: %w: %w", storage.ErrInvalid, err)
	}
	return err
}

// sync makes the entries of a folder durable. That a Delete has removed it meanwhile is no error.
func (s *Store) sync(dir string) error {
	file, err := s.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("sync the folder %q: %w", dir, err)
	}
	return nil
}

type contextReader struct {
	ctx    context.Context
	source io.Reader
}

// withContext returns a reader that fails when the context ends.
func withContext(ctx context.Context, r io.Reader) io.Reader {
	return &contextReader{ctx: ctx, source: r}
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.source.Read(p)
}
