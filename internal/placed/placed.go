package placed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// Record is the account, a file in the installation's home.
type Record struct {
	SchemaVersion int `json:"schemaVersion"`
	// Restart is true from before the configuration of the container runtime is changed until it runs with that.
	Restart bool `json:"restart,omitempty"`
	// Files are those of the container runtime's configuration that are ours, or that have something of ours in them.
	Files []File `json:"files,omitempty"`
}

// File is one of them.
type File struct {
	// Path is where it lies on the node.
	Path string `json:"path"`
	// Own files are ours as a whole.
	Own bool `json:"own,omitempty"`
	// Made is true where there was none before; it goes when nothing is left in it but what we wrote.
	Made bool `json:"made,omitempty"`
	// Inserted is what was added to one of somebody else's, in one place.
	Inserted string `json:"inserted,omitempty"`
	// Backup is where it lies as it was before; empty where there was none.
	Backup string `json:"backup,omitempty"`
	// MadeFolder is true where its folder was made for it.
	MadeFolder bool `json:"madeFolder,omitempty"`
}

// name is that of the file in home that holds the account.
const name = "placed.json"

// Read returns the account in the folder home; an empty one where there is none.
func Read(home string) (*Record, error) {
	r := &Record{}
	data, err := os.ReadFile(filepath.Join(home, name))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	if err == nil && r.SchemaVersion != capture.SchemaVersion {
		err = fmt.Errorf("schemaVersion is %d; it may be %d", r.SchemaVersion, capture.SchemaVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(home, name), err)
	}
	return r, nil
}

// Write writes the account into the folder home in one step.
func (r *Record) Write(home string) error {
	r.SchemaVersion = capture.SchemaVersion
	return capture.WriteJSON(filepath.Join(home, name), r)
}

// Of returns the entry of a file; nil where there is none.
func (r *Record) Of(path string) *File {
	if i := slices.IndexFunc(r.Files, func(f File) bool { return f.Path == path }); i >= 0 {
		return &r.Files[i]
	}
	return nil
}

// Set adds the entry of a file, or replaces it.
func (r *Record) Set(f File) {
	if has := r.Of(f.Path); has != nil {
		*has = f
		return
	}
	r.Files = append(r.Files, f)
}

// Drop removes the entry of a file.
func (r *Record) Drop(path string) {
	r.Files = slices.DeleteFunc(r.Files, func(f File) bool { return f.Path == path })
}

// TakeBack makes a file what it was before, and tells whether it has changed. Of a file that somebody has changed since, what we added is taken out and all
// else stays. The root is that of the node's file system as it is seen from here.
func (f File) TakeBack(root string) (changed bool, err error) {
	path := At(root, f.Path)
	has, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, f.dropBackup(root)
	}
	if err != nil {
		return false, err
	}
	left := has
	if !f.Own {
		if !bytes.Contains(has, []byte(f.Inserted)) {
			return false, nil // somebody took it out; the backup stays, for whoever wants to know
		}
		left = bytes.Replace(has, []byte(f.Inserted), nil, 1)
	}
	if f.Own || f.Made && len(bytes.TrimSpace(left)) == 0 {
		if err := os.Remove(path); err != nil {
			return false, err
		}
		if f.MadeFolder {
			_ = os.Remove(filepath.Dir(path)) // others may have put something there
		}
		return true, f.dropBackup(root)
	}
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if err := Replace(path, left, info); err != nil {
		return false, err
	}
	return true, f.dropBackup(root)
}

func (f File) dropBackup(root string) error {
	if f.Backup == "" {
		return nil
	}
	if err := os.Remove(At(root, f.Backup)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// TakeBack takes back all files, and tells whether one of them has changed.
func (r *Record) TakeBack(root string) (changed bool, err error) {
	for _, file := range r.Files {
		did, fileErr := file.TakeBack(root)
		if fileErr != nil {
			fileErr = fmt.Errorf("take back %s: %w", file.Path, fileErr)
		}
		changed, err = changed || did, errors.Join(err, fileErr)
	}
	return changed, err
}

// Replace writes a file in one step, with the mode and the owner of what was there.
func Replace(path string, content []byte, like fs.FileInfo) error {
	temporary := path + ".transparent-checkpoint"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, like.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(like.Mode().Perm()), chown(file, like), file.Sync(), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}
