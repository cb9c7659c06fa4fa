package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/placed"
)

// backupSuffix is what the name of a file that was changed ends with as it was before.
const backupSuffix = ".before-transparent-checkpoint"

// configuration writes what is ours into the configuration of a container runtime, and keeps account of that in home.
type configuration struct {
	// root is the node's file system as it is seen from here, home the installation's folder, seen from here too.
	root, home string
}

// write brings the files to what the targets say, and takes back what is in no target any more. It returns the files that it changed, and whether the
// container runtime is to be restarted, now or since an earlier time.
func (c configuration) write(targets []target) (changed []string, restart bool, err error) {
	record, err := placed.Read(c.home)
	if err != nil {
		return nil, false, err
	}
	for _, file := range slices.Clone(record.Files) {
		if slices.ContainsFunc(targets, func(t target) bool { return t.path == file.Path }) {
			continue
		}
		did, err := file.TakeBack(c.root)
		if err != nil {
			return changed, false, err
		}
		if did {
			changed = append(changed, file.Path)
			record.Restart = true
		}
		record.Drop(file.Path)
		if err := record.Write(c.home); err != nil {
			return changed, false, err
		}
	}
	for _, t := range targets {
		did, err := c.writeOne(record, t)
		if err != nil {
			return changed, record.Restart, fmt.Errorf("%s: %w", t.path, err)
		}
		if did {
			changed = append(changed, t.path)
		}
	}
	return changed, record.Restart, nil
}

// writeOne writes the account before the file: what is in a file is always known.
func (c configuration) writeOne(record *placed.Record, t target) (changed bool, err error) {
	file := placed.At(c.root, t.path)
	has, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		has, err = nil, nil
	} else if has == nil && err == nil {
		has = []byte{}
	}
	if err != nil {
		return false, err
	}
	entry := placed.File{Path: t.path, Own: t.own != nil, Made: has == nil && t.own == nil}
	known := record.Of(t.path)
	if known != nil {
		entry = *known
	}
	wanted := t.own
	if t.insert != nil {
		if wanted, entry.Inserted, err = t.insert(has, entry.Inserted); err != nil {
			return false, err
		}
	}
	if has != nil && bytes.Equal(has, wanted) && known != nil && known.Inserted == entry.Inserted {
		return false, nil
	}
	if has != nil && t.insert != nil && known == nil && !bytes.Equal(has, wanted) {
		entry.Backup = strings.TrimPrefix(file, strings.TrimSuffix(c.root, "/")) + backupSuffix
		if err := c.backUp(file, has); err != nil {
			return false, err
		}
	}
	if _, err := os.Stat(filepath.Dir(file)); errors.Is(err, fs.ErrNotExist) {
		entry.MadeFolder = true
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return false, err
		}
	}
	same := has != nil && bytes.Equal(has, wanted)
	record.Restart = record.Restart || !same
	record.Set(entry)
	if err := record.Write(c.home); err != nil || same {
		return false, err
	}
	if info, err := os.Stat(file); err == nil {
		return true, placed.Replace(file, wanted, info)
	}
	return true, replace(file, wanted, 0o644)
}

// without returns what stands in a file beside our part; nil where there is none, or nothing else.
func (c configuration) without(path string) ([]byte, error) {
	record, err := placed.Read(c.home)
	if err != nil {
		return nil, err
	}
	has, err := os.ReadFile(placed.At(c.root, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if ours := record.Of(path); ours != nil && bytes.Contains(has, []byte(ours.Inserted)) {
		has = bytes.Replace(has, []byte(ours.Inserted), nil, 1)
		if ours.Made && len(bytes.TrimSpace(has)) == 0 {
			return nil, nil
		}
	}
	return append([]byte{}, has...), nil
}

// backUp keeps a file as it is beside itself, unless that was done before.
func (c configuration) backUp(file string, content []byte) error {
	if _, err := os.Lstat(file + backupSuffix); err == nil {
		return nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return replace(file+backupSuffix, content, info.Mode().Perm())
}

// restarted notes that the container runtime runs with the configuration.
func (c configuration) restarted() error {
	record, err := placed.Read(c.home)
	if err != nil || !record.Restart {
		return err
	}
	record.Restart = false
	return record.Write(c.home)
}

// takeBack takes everything out of the configuration again, and tells whether there was something.
func (c configuration) takeBack() (changed bool, err error) {
	record, err := placed.Read(c.home)
	if err != nil {
		return false, err
	}
	if changed, err = record.TakeBack(c.root); err != nil {
		return changed, err
	}
	record.Files, record.Restart = nil, false
	if _, err := os.Stat(c.home); errors.Is(err, fs.ErrNotExist) {
		return changed, nil
	}
	return changed, record.Write(c.home)
}
