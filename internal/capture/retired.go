package capture

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// RetiredFile is there when the operator was removed from the node while pods of its handlers ran. The runtime captures and restores nothing then, and
// removes itself with the last of them.
func (n Node) RetiredFile() string { return filepath.Join(n.Home(), "retired") }

// IsRetired tells whether that is so.
func (n Node) IsRetired() bool {
	_, err := os.Stat(n.RetiredFile())
	return err == nil
}

// Retired holds an empty file for each sandbox of this boot that a retired runtime is there for, named by its ID.
func (n Node) Retired() string { return filepath.Join(n.Root, "run/checkpoint/retired") }

// NoteSandbox adds one.
func (n Node) NoteSandbox(id string) error {
	if err := os.MkdirAll(n.Retired(), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.Retired(), filepath.Base(id)), nil, 0o600)
}

// DropSandbox removes one, and tells whether that was the last. That it is none of them is no error.
func (n Node) DropSandbox(id string) (last bool, err error) {
	err = os.Remove(filepath.Join(n.Retired(), filepath.Base(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && !n.HasSandboxes(), err
}

// HasSandboxes tells whether there are any.
func (n Node) HasSandboxes() bool {
	entries, err := os.ReadDir(n.Retired())
	return len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}
