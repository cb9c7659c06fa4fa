package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/transparent-checkpoint/operator/storage"
)

// removeStrange removes from the partial directory what the manifest does not name, or names as something else, and opens what is left to the
// process. A new directory is empty, and a kept one is what an earlier Fetch left behind.
func (f *fetcher) removeStrange() error {
	kinds := map[string]string{}
	for i := range f.manifest.Entries {
		kinds[f.manifest.Entries[i].Path] = f.manifest.Entries[i].Kind
	}
	return f.sweep(".", kinds)
}

func (f *fetcher) sweep(dir string, kinds map[string]string) error {
	entries, err := fs.ReadDir(f.root.FS(), dir)
	if err != nil {
		return err
	}
	for _, d := range entries {
		name := strings.TrimPrefix(dir+"/"+d.Name(), "./")
		switch {
		case d.IsDir() && kinds[name] == kindDirectory:
			if err = f.root.Chmod(name, 0o700); err == nil {
				err = f.sweep(name, kinds)
			}
		case d.Type().IsRegular() && kinds[name] == kindFile:
			err = f.root.Chmod(name, 0o600)
		default:
			err = f.root.RemoveAll(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare verifies that a whole directory has what the manifest names. What else is in it does not matter.
func (f *fetcher) compare() error {
	return f.work.wait(f.compareEntries())
}

func (f *fetcher) compareEntries() error {
	for i := range f.manifest.Entries {
		e := &f.manifest.Entries[i]
		if err := f.compareEntry(e); err != nil {
			return fmt.Errorf("what is there already: %q: %w", e.Path, err)
		}
	}
	return nil
}

func (f *fetcher) compareEntry(e *entry) error {
	info, err := f.root.Lstat(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	if err != nil {
		return err
	}
	if e.Kind == kindDirectory && info.IsDir() {
		return nil
	}
	if e.Kind != kindFile || !info.Mode().IsRegular() || info.Size() != e.Size {
		return fmt.Errorf("it is %s of %d bytes; it has to be a %s of %d: %w", info.Mode().Type(), info.Size(), e.Kind, e.Size, storage.ErrCorrupt)
	}
	opened, err := f.root.Open(e.Path)
	if err != nil {
		return err
	}
	return f.compareFile(e, opened)
}

func (f *fetcher) compareFile(e *entry, opened *os.File) (err error) {
	file := share(opened)
	defer func() { err = errors.Join(err, file.release()) }()
	for i, name := range e.Chunks {
		offset, size := int64(i)*f.manifest.ChunkSize, e.chunkLength(i, f.manifest.ChunkSize)
		if name == zeroChunk && !hasData(opened, offset, size) {
			f.work.count(size, 0)
			continue
		}
		file.use()
		err := f.work.start(size, func(buffer []byte) (int64, error) {
			is, err := chunkIs(file.File, offset, buffer, name)
			if err == nil && !is {
				err = storage.ErrCorrupt
			}
			if err = errors.Join(err, file.release()); err != nil {
				return 0, fmt.Errorf("what is there already: %q from byte %d on: %w", e.Path, offset, err)
			}
			return 0, nil
		})
		if err != nil {
			return errors.Join(err, file.release())
		}
	}
	return nil
}
