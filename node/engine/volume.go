package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// The folders beside the content of a swapped one, on the same file system. A pod could have made something of that name; it is removed, and a
// link is never followed.
const (
	// stagedFolder holds the captured content until all of the former has moved away, and arrivingFolder is its name from then on.
	stagedFolder   = ".checkpoint-staged"
	arrivingFolder = ".checkpoint-arriving"
	formerFolder   = ".checkpoint-former"
)

// lostAndFound is a folder of a file system's own, at the top of a volume.
const lostAndFound = "lost+found"

// isKept tells whether what has that name at the top of a volume is left alone, unless the volume is an emptyDir, which has none of it: it is the file
// system's own, or holds states.
func isKept(name string) bool { return name == lostAndFound || name == capture.KeptFolder }

// ownFolders are all of them.
var ownFolders = []string{stagedFolder, arrivingFolder, formerFolder}

// swap replaces the content of a folder by that of an archive, see exchange. Until it is kept or undone the former content stays.
func swap(ctx context.Context, dir, archive string) error {
	source, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer source.Close()
	return inFolder(dir, func(x exchange) error { return x.swap(ctx, source) })
}

// keep removes the former content of a swapped folder; one that was not swapped stays as it is.
func keep(dir string) error { return inFolder(dir, exchange.keep) }

// undo brings the former content of a swapped folder back, also of one whose swap was cut off at any step; one that was not swapped stays as it is.
func undo(dir string) error { return inFolder(dir, exchange.undo) }

func inFolder(dir string, work func(exchange) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return work(exchange{root: root, whole: true})
}

// exchange is a folder whose content is replaced. Nothing of it leads out of the folder, whatever lies there.
type exchange struct {
	root *os.Root
	// names are what is replaced in the folder; none means all.
	names []string
	// whole has the folder itself become the captured one, too: its owner, mode and times.
	whole bool
}

// swap writes an archive into a folder inside, moves what was there into another, and only then moves the new one to its place.
func (x exchange) swap(ctx context.Context, archive io.Reader) error {
	root := x.root
	for _, folder := range ownFolders {
		if err := root.RemoveAll(folder); err != nil {
			return err
		}
	}
	if err := errors.Join(root.Mkdir(stagedFolder, 0o700), root.Mkdir(formerFolder, 0o700)); err != nil {
		return err
	}
	state, err := x.stage(ctx, archive)
	if err != nil {
		return err
	}
	if err := x.moveContent(".", formerFolder); err != nil {
		return err
	}
	if x.whole {
		if err := copyAttributes(root, ".", formerFolder); err != nil {
			return err
		}
	}
	if err := root.Rename(stagedFolder, arrivingFolder); err != nil {
		return err
	}
	if err := x.moveContent(arrivingFolder, "."); err != nil {
		return err
	}
	if err := root.Remove(arrivingFolder); err != nil || !x.whole {
		return err
	}
	return applyTo(root, ".", state)
}

// stage writes an archive into the folder for that, and returns what the folder itself is to become.
func (x exchange) stage(ctx context.Context, archive io.Reader) (folderState, error) {
	staged, err := x.root.Open(stagedFolder)
	if err != nil {
		return folderState{}, err
	}
	defer staged.Close()
	read := readTree
	if !x.whole {
		read = readContent
	}
	if err := read(ctx, archive, staged); err != nil {
		return folderState{}, err
	}
	return stateOf(pathIn(int(staged.Fd()), "."))
}

func (x exchange) keep() error {
	root := x.root
	if _, err := root.Lstat(formerFolder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !x.whole {
		return root.RemoveAll(formerFolder)
	}
	folder, err := root.Open(".")
	if err != nil {
		return err
	}
	defer folder.Close()
	state, err := stateOf(pathIn(int(folder.Fd()), "."))
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(formerFolder), applyTo(root, ".", state)) // its time is that of the captured one
}

func (x exchange) undo() error {
	root := x.root
	former, err := root.Lstat(formerFolder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !former.IsDir() {
		return errors.Join(root.RemoveAll(stagedFolder), root.RemoveAll(arrivingFolder), root.RemoveAll(formerFolder))
	}
	if err != nil {
		return err
	}
	if _, err := root.Lstat(stagedFolder); errors.Is(err, fs.ErrNotExist) { // what is in its place is the captured content, or part of it
		names, err := x.namesIn(".")
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := root.RemoveAll(name); err != nil {
				return err
			}
		}
		if x.whole {
			err = copyAttributes(root, formerFolder, ".")
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(root.RemoveAll(stagedFolder), root.RemoveAll(arrivingFolder), x.moveContent(formerFolder, ".")); err != nil {
		return err
	}
	return root.Remove(formerFolder)
}

// namesIn returns what lies in a folder of what is replaced, without the own folders.
func (x exchange) namesIn(folder string) ([]string, error) {
	file, err := x.root.Open(folder)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all, err := file.Readdirnames(-1)
	var names []string
	for _, name := range all {
		isMeant := slices.Contains(x.names, name) || len(x.names) == 0 && (x.whole || !isKept(name))
		if !slices.Contains(ownFolders, name) && isMeant {
			names = append(names, name)
		}
	}
	return names, err
}

// moveContent moves what is replaced.
func (x exchange) moveContent(from, to string) error {
	names, err := x.namesIn(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := x.root.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
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
