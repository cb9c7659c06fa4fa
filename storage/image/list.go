package image

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

// Listed is a checkpoint that List has found, by its manifest.
type Listed struct {
	// Folder is the name of the Folder in which it lies.
	Folder string
	// Name is its own in that folder.
	Name string
	// Size is that of the manifest, in bytes.
	Size int64
	// Modified is when the manifest was put, by the clock of the store: when the checkpoint was there.
	Modified time.Time
}

// List yields the checkpoints of all folders whose names begin with the prefix and a slash, in the order of folders and names. It reads none of them: what
// it yields has a manifest, which may turn out to be corrupt. It ends with the first error of the store, and holds no more than one of them.
func List(ctx context.Context, store storage.Store, prefix string) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		for info, err := range store.List(ctx, prefix+"/", "") {
			if err != nil {
				yield(Listed{}, fmt.Errorf("list the checkpoints of %s: %w", prefix, err))
				return
			}
			dir, name := path.Split(info.Key)
			folder, isManifest := strings.CutSuffix(dir, "/"+manifestKind+"/")
			if !isManifest {
				continue
			}
			if !yield(Listed{Folder: folder, Name: name, Size: info.Size, Modified: info.Modified}, nil) {
				return
			}
		}
	}
}

// Exists tells whether a checkpoint of that name is in the folder at this moment.
func (f *Folder) Exists(ctx context.Context, name string) (bool, error) {
	if err := f.check(name); err != nil {
		return false, err
	}
	_, err := f.Store.Stat(ctx, f.key(manifestKind, name))
	if errors.Is(err, storage.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
