package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/transparent-checkpoint/operator/storage"
)

// List implements storage.Store. It holds one folder's names at a time in memory.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := errors.Join(storage.CheckPrefix("prefix", prefix), storage.CheckPrefix("after", after)); err != nil {
			yield(storage.Info{}, fmt.Errorf("list %q: %w", prefix, err))
			return
		}
		w := &walk{ctx: ctx, tree: s.root.FS(), prefix: prefix, after: after, yield: yield}
		if err := w.folder(""); err != nil && !errors.Is(err, errStop) {
			yield(storage.Info{}, fmt.Errorf("list %q: %w", prefix, translate(err)))
		}
	}
}

// errStop ends a walk whose consumer wants no more.
var errStop = errors.New("stop")

type walk struct {
	ctx           context.Context
	tree          fs.FS
	prefix, after string
	yield         func(storage.Info, error) bool
}

// folder walks the folder whose keys begin with parent, which is "" or ends with a slash.
func (w *walk) folder(parent string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(w.tree, path.Join(objects, parent))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed by a Delete
	}
	if err != nil {
		return err
	}
	// The order of whole keys, in which "a-b" comes before "a/b".
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(begin(a), begin(b)) })
	for _, entry := range entries {
		key := parent + begin(entry)
		if !w.wanted(key, entry.IsDir()) {
			continue
		}
		if entry.IsDir() {
			err = w.folder(key)
		} else {
			err = w.object(key, entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin is that with which the keys of an entry begin.
func begin(entry fs.DirEntry) string {
	if entry.IsDir() {
		return entry.Name() + "/"
	}
	return entry.Name()
}

// wanted says whether there can be a key to yield at or below this one.
func (w *walk) wanted(key string, isFolder bool) bool {
	if isFolder {
		return (strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)) && (key > w.after || strings.HasPrefix(w.after, key))
	}
	return strings.HasPrefix(key, w.prefix) && key > w.after
}

func (w *walk) object(key string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed by a Delete
	}
	if err != nil {
		return err
	}
	isObject := info.Mode().IsRegular() && storage.CheckKey("key", key) == nil
	if isObject && !w.yield(storage.Info{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}, nil) {
		return errStop
	}
	return nil
}
