package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
func swap(ctx context.Context, dir, archive string) error {
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
	staged, err := root.Open(stagedFolder)
	if err != nil {
		return err
	}
	defer staged.Close()
	source, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := readTree(ctx, source, staged); err != nil {
		return err
	}
	state, err := stateOf(pathIn(int(staged.Fd()), "."))
	if err != nil {
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
	return errors.Join(root.Remove(arrivingFolder), applyTo(root, ".", state))
}

// keep removes the former content of a swapped folder; one that was not swapped stays as it is.
func keep(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	state, err := stateOf(dir)
	if err != nil {
		return err
	}
	if _, err := root.Lstat(formerFolder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(root.RemoveAll(formerFolder), applyTo(root, ".", state)) // its time is that of the captured one
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

// copyAttributes gives a folder what another is beside its content.
func copyAttributes(root *os.Root, from, to string) error {
	source, err := root.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	state, err := stateOf(pathIn(int(source.Fd()), "."))
	if err != nil {
		return err
	}
	return applyTo(root, to, state)
}

func applyTo(root *os.Root, folder string, state folderState) error {
	target, err := root.Open(folder)
	if err != nil {
		return err
	}
	defer target.Close()
	return state.apply(pathIn(int(target.Fd()), "."))
}
