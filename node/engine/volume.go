package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The folders beside the content of a swapped one, on the same file system.
const (
	stagedFolder = ".checkpoint-staged"
	formerFolder = ".checkpoint-former"
)

// swap replaces the content of a folder by that of an archive: it is written into a folder inside, what was there moves into another, and
// only then the new one moves to its place. Until settled or undone the former content is kept.
func swap(dir, archive string) error {
	staged, former := filepath.Join(dir, stagedFolder), filepath.Join(dir, formerFolder)
	if err := os.RemoveAll(staged); err != nil {
		return err
	}
	for _, folder := range []string{staged, former} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			return err
		}
	}
	if err := loadTree(archive, staged, false); err != nil {
		return err
	}
	if err := moveContent(dir, former); err != nil {
		return err
	}
	if err := copyAttributes(dir, former); err != nil {
		return err
	}
	if err := moveContent(staged, dir); err != nil {
		return err
	}
	return errors.Join(copyAttributes(staged, dir), os.Remove(staged))
}

// keep removes the former content of a swapped folder; one that was not swapped stays as it is.
func keep(dir string) error { return os.RemoveAll(filepath.Join(dir, formerFolder)) }

// undo brings the former content of a swapped folder back; one that was not swapped stays as it is.
func undo(dir string) error {
	former := filepath.Join(dir, formerFolder)
	if _, err := os.Stat(former); errors.Is(err, os.ErrNotExist) {
		return os.RemoveAll(filepath.Join(dir, stagedFolder))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != formerFolder {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(moveContent(former, dir), copyAttributes(former, dir), os.Remove(former))
}

// moveContent moves all but the two own folders.
func moveContent(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if name := entry.Name(); name != stagedFolder && name != formerFolder {
			if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyAttributes gives a folder the owner and mode of another.
func copyAttributes(from, to string) error {
	var stat unix.Stat_t
	if err := unix.Stat(from, &stat); err != nil {
		return fmt.Errorf("stat %s: %w", from, err)
	}
	return errors.Join(os.Chown(to, int(stat.Uid), int(stat.Gid)), unix.Chmod(to, stat.Mode&0o7777))
}
