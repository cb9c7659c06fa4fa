package capture

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// pausedFile is there while the whole operator is paused, as far as the agent knew last. It outlives a boot.
func (n Node) pausedFile() string { return filepath.Join(n.Root, "var/lib/checkpoint/paused") }

// Pause leaves word that the whole operator is paused, in a sentence that says why: without an agent new pods start cold then, at once.
func (n Node) Pause(why string) error {
	if said, is := n.IsPaused(); is && said == strings.TrimSpace(why) {
		return nil
	}
	path := n.pausedFile()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", []byte(why), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Resume takes that back; that there was nothing is no error.
func (n Node) Resume() error {
	if err := os.Remove(n.pausedFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// IsPaused tells whether the agent has left word of a pause, and why.
func (n Node) IsPaused() (why string, is bool) {
	data, err := os.ReadFile(n.pausedFile())
	return strings.TrimSpace(string(data)), err == nil
}
