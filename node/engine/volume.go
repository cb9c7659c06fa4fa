package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// The folders beside the content of a swapped one, on the same file system. A pod could have made something of that name; it is removed, and a
// link is never followed.
const (
	// stagedFolder holds the captured content until all of the former has moved away, and arrivingFolder is its name from then on.
	stagedFolder   = ".checkpoint-staged"
	arrivingFolder = ".checkpoint-arriving"
	formerFolder   = ".checkpoint-former"
)

// ownFolders are all of them.
var ownFolders = []string{stagedFolder, arrivingFolder, formerFolder}

// swap replaces the content of a folder by that of an archive: it is written into a folder inside, what was there moves into another, and
// only then the new one moves to its place. Until it is kept or undone the former content stays. Nothing of it leads out of the folder, whatever
// lies there.
func swap(dir, archive string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, folder := range ownFolders {
		if err := root.RemoveAll(folder); err != nil {
			return err
		}
	}
	if err := errors.Join(root.Mkdir(stagedFolder, 0o700), root.Mkdir(formerFolder, 0o700)); err != nil {
		return err
	}
	staged, err := root.OpenRoot(stagedFolder)
	if err != nil {
		return err
	}
	defer staged.Close()
	source, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := readTree(source, staged, false); err != nil {
		return err
	}
	if err := moveContent(root, ".", formerFolder); err != nil {
		return err
	}
	if err := copyAttributes(root, ".", formerFolder); err != nil {
		return err
	}
	if err := root.Rename(stagedFolder, arrivingFolder); err != nil {
		return err
	}
	if err := moveContent(root, arrivingFolder, "."); err != nil {
		return err
	}
	return errors.Join(copyAttributes(root, arrivingFolder, "."), root.Remove(arrivingFolder))
}

// keep removes the former content of a swapped folder; one that was not swapped stays as it is.
func keep(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(formerFolder)
}

// undo brings the former content of a swapped folder back, also of one whose swap was cut off at any step; one that was not swapped stays as it is.
func undo(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	former, err := root.Lstat(formerFolder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !former.IsDir() {
		return errors.Join(root.RemoveAll(stagedFolder), root.RemoveAll(arrivingFolder), root.RemoveAll(formerFolder))
	}
	if err != nil {
		return err
	}
	if _, err := root.Lstat(stagedFolder); errors.Is(err, fs.ErrNotExist) { // what is in its place is the captured content, or part of it
		names, err := namesOf(root, ".")
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := root.RemoveAll(name); err != nil {
				return err
			}
		}
		if err := copyAttributes(root, formerFolder, "."); err != nil {
			return err
		}
	}
	err = errors.Join(root.RemoveAll(stagedFolder), root.RemoveAll(arrivingFolder), moveContent(root, formerFolder, "."))
	if err != nil {
		return err
	}
	return root.Remove(formerFolder)
}

// namesOf returns what lies in a folder, without the own folders.
func namesOf(root *os.Root, folder string) ([]string, error) {
	file, err := root.Open(folder)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all, err := file.Readdirnames(-1)
	var names []string
	for _, name := range all {
		if !slices.Contains(ownFolders, name) {
			names = append(names, name)
		}
	}
	return names, err
}

// moveContent moves all but the own folders.
func moveContent(root *os.Root, from, to string) error {
	names, err := namesOf(root, from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := root.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

// copyAttributes gives a folder the owner and mode of another.
func copyAttributes(root *os.Root, from, to string) error {
	info, err := root.Lstat(from)
	if err != nil {
		return fmt.Errorf("stat %s: %w", from, err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	return errors.Join(root.Chown(to, int(stat.Uid), int(stat.Gid)), root.Chmod(to, mode))
}
