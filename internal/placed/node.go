package placed

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func chown(file *os.File, like fs.FileInfo) error {
	stat, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return file.Chown(int(stat.Uid), int(stat.Gid))
}

// Clear removes the folders of an installation. What is not in the bucket stays in the folder of the states: those paths are returned.
func Clear(node capture.Node) (kept []string, err error) {
	kept, err = Unsent(node)
	if err != nil {
		return nil, err
	}
	dirs := []string{node.Home(), filepath.Join(node.Root, "run/checkpoint")}
	if len(kept) == 0 {
		dirs = append(dirs, filepath.Join(node.Root, "var/lib/checkpoint"))
	}
	for _, dir := range dirs {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	for _, pattern := range []string{"checkpoint-runtime", "*/checkpoint-runtime"} { // the control groups of captures; one that is at work keeps its own
		groups, _ := filepath.Glob(filepath.Join(node.Root, "sys/fs/cgroup", pattern))
		for _, group := range groups {
			_ = os.Remove(group)
		}
	}
	return kept, err
}

// Unsent returns the folders of captures that hold a state which is nowhere else.
func Unsent(node capture.Node) (dirs []string, err error) {
	all, err := filepath.Glob(filepath.Join(node.CapturesRoot(), "*", "[0-9]*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range all {
		if has(dir, capture.UploadedFile) || has(dir, capture.DiscardedFile) {
			continue
		}
		record, err := capture.Read(dir)
		if err == nil && record.State == capture.Failed {
			continue
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

func has(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}
