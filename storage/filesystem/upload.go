package filesystem

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/transparent-checkpoint/operator/storage"
)

// keyFile holds the key of an upload.
const keyFile = "key"

// Begin implements storage.Store.
func (s *Store) Begin(ctx context.Context, key string) (storage.Upload, error) {
	upload := storage.Upload{Key: key, ID: rand.Text()}
	if err := s.begin(ctx, upload); err != nil {
		return storage.Upload{}, fmt.Errorf("begin the upload of %q: %w", key, translate(err))
	}
	return upload, nil
}

func (s *Store) begin(ctx context.Context, upload storage.Upload) error {
	if err := upload.Check(); err != nil {
		return err
	}
	// The key is in place before the folder has its name, so that no upload lacks it.
	tmp, err := s.write(ctx, func(w io.Writer) error {
		_, err := io.WriteString(w, upload.Key)
		return err
	})
	if err != nil {
		return err
	}
	dir := path.Join(uploads, upload.ID)
	if err := s.root.Mkdir(dir, 0o700); err != nil {
		return errors.Join(err, s.root.Remove(tmp))
	}
	return errors.Join(s.root.Rename(tmp, path.Join(dir, keyFile)), s.sync(dir), s.sync(uploads))
}

// PutPart implements storage.Store.
func (s *Store) PutPart(ctx context.Context, upload storage.Upload, number int, body storage.Body) (storage.Part, error) {
	part, err := s.putPart(ctx, upload, number, body)
	if err != nil {
		return storage.Part{}, fmt.Errorf("put part %d of %q: %w", number, upload.Key, translate(err))
	}
	return part, nil
}

func (s *Store) putPart(ctx context.Context, upload storage.Upload, number int, body storage.Body) (storage.Part, error) {
	if err := storage.CheckPart(number, body.Size); err != nil {
		return storage.Part{}, err
	}
	old, err := s.parts(ctx, upload)
	if err != nil {
		return storage.Part{}, err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	tmp, err := s.write(ctx, func(w io.Writer) error { return copyBody(ctx, io.MultiWriter(w, sum), body) })
	if err != nil {
		return storage.Part{}, err
	}
	part := storage.Part{Number: number, Size: body.Size, Tag: fmt.Sprintf("%08x", sum.Sum32())}
	dir := path.Join(uploads, upload.ID)
	if err := s.root.Rename(tmp, path.Join(dir, fileOf(part))); err != nil {
		return storage.Part{}, errors.Join(err, s.root.Remove(tmp))
	}
	for _, other := range old {
		if other.Number == number && other.Tag != part.Tag {
			if err := s.root.Remove(path.Join(dir, fileOf(other))); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return storage.Part{}, err
			}
		}
	}
	return part, s.sync(dir)
}

// Parts implements storage.Store.
func (s *Store) Parts(ctx context.Context, upload storage.Upload) ([]storage.Part, error) {
	parts, err := s.parts(ctx, upload)
	if err != nil {
		return nil, fmt.Errorf("list the parts of %q: %w", upload.Key, translate(err))
	}
	return parts, nil
}

func (s *Store) parts(ctx context.Context, upload storage.Upload) ([]storage.Part, error) {
	if err := s.check(ctx, upload); err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(s.root.FS(), path.Join(uploads, upload.ID))
	if err != nil {
		return nil, err
	}
	var parts []storage.Part
	for _, entry := range entries {
		number, tag, _ := strings.Cut(entry.Name(), "-")
		part := storage.Part{Tag: tag}
		if part.Number, err = strconv.Atoi(number); err != nil {
			continue // the file with the key
		}
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		part.Size = info.Size()
		parts = append(parts, part)
	}
	slices.SortFunc(parts, func(a, b storage.Part) int { return cmp.Compare(a.Number, b.Number) })
	return parts, nil
}

// check returns ErrNotExist unless there is such an upload of that key.
func (s *Store) check(ctx context.Context, upload storage.Upload) error {
	if err := errors.Join(upload.Check(), storage.CheckKey("id of the upload", upload.ID), ctx.Err()); err != nil {
		return err
	}
	key, err := s.root.ReadFile(path.Join(uploads, upload.ID, keyFile))
	if err != nil {
		return err
	}
	if string(key) != upload.Key {
		return fmt.Errorf("key of the upload is %q, not %q: %w", key, upload.Key, storage.ErrNotExist)
	}
	return nil
}

// Complete implements storage.Store. It copies the parts into one file.
func (s *Store) Complete(ctx context.Context, upload storage.Upload, parts []storage.Part) error {
	if err := s.complete(ctx, upload, parts); err != nil {
		return fmt.Errorf("complete the upload of %q: %w", upload.Key, translate(err))
	}
	return nil
}

func (s *Store) complete(ctx context.Context, upload storage.Upload, parts []storage.Part) error {
	if err := storage.CheckParts(parts); err != nil {
		return err
	}
	have, err := s.parts(ctx, upload)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if !slices.Contains(have, part) {
			return fmt.Errorf("part %d of %d bytes with tag %q is not there: %w", part.Number, part.Size, part.Tag, storage.ErrInvalid)
		}
	}
	tmp, err := s.write(ctx, func(w io.Writer) error {
		for _, part := range parts {
			if err := s.appendPart(ctx, w, path.Join(uploads, upload.ID, fileOf(part))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.publish(tmp, upload.Key, false); err != nil {
		return err
	}
	return s.root.RemoveAll(path.Join(uploads, upload.ID))
}

func (s *Store) appendPart(ctx context.Context, w io.Writer, name string) error {
	file, _, err := s.open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return copyAll(ctx, w, file)
}

// Abort implements storage.Store.
func (s *Store) Abort(ctx context.Context, upload storage.Upload) error {
	err := s.check(ctx, upload)
	if err == nil {
		err = s.root.RemoveAll(path.Join(uploads, upload.ID))
	}
	if err = translate(err); err != nil && !errors.Is(err, storage.ErrNotExist) {
		return fmt.Errorf("abort the upload of %q: %w", upload.Key, err)
	}
	return nil
}

// fileOf is the name of the file of a part: number and content, so that a part that is put again never changes one that is being read.
func fileOf(part storage.Part) string { return fmt.Sprintf("%05d-%s", part.Number, part.Tag) }
