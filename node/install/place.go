package install

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// copyFolder copies the files of a folder, those that differ.
func copyFolder(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, entry := range entries {
		if err := copyWhenOther(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copyWhenOther makes to a program with the content of from, in one step, unless it is that already.
func copyWhenOther(from, to string) error {
	wanted, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if has, err := os.ReadFile(to); err == nil && bytes.Equal(has, wanted) {
		return nil
	}
	return replace(to, wanted, 0o755)
}

// writeWhenOther writes a file in one step, and tells whether that was needed.
func writeWhenOther(path string, wanted []byte) (bool, error) {
	has, err := os.ReadFile(path)
	if err == nil && slices.Equal(has, wanted) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	return true, replace(path, wanted, 0o644)
}

func replace(path string, content []byte, mode fs.FileMode) error {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
