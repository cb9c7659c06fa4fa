package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// watchOptions returns options for CRIU by which it finds files of the root file system that the container watches with inotify or fanotify. The kernel
// tells their numbers only; CRIU would open them by their handles, which an overlay does not have, or look for them in a few folders
// (https://github.com/checkpoint-restore/criu/blob/v4.2/criu/irmap.c).
func watchOptions(m member) ([]string, error) {
	root := fmt.Sprintf("/proc/%d/root", m.pid)
	var filesystem unix.Statfs_t
	if err := unix.Statfs(root, &filesystem); err != nil || filesystem.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return nil, err
	}
	var status unix.Stat_t
	if err := unix.Stat(root, &status); err != nil {
		return nil, err
	}
	pids, err := m.group.processes()
	if err != nil {
		return nil, err
	}
	watched := map[uint64]bool{}
	for _, pid := range pids {
		for _, inode := range watchedBy(pid, unix.Major(status.Dev)<<20|unix.Minor(status.Dev)) {
			watched[inode] = true
		}
	}
	if len(watched) == 0 {
		return nil, nil
	}
	paths, err := pathsOf(root, status.Dev, watched)
	if err != nil {
		return nil, err
	}
	var options []string
	for _, found := range paths {
		if !strings.ContainsAny(found, "\n\"\\") { // which CRIU's file of options cannot say
			options = append(options, fmt.Sprintf("irmap-scan-path \"%s\"", found))
		}
	}
	return options, nil
}

// watchedBy returns the inodes that a process watches on a device, as the kernel numbers it.
func watchedBy(pid int, device uint32) []uint64 {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir) // it may have ended
	var inodes []uint64
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err != nil || target != "anon_inode:inotify" && target != "anon_inode:[fanotify]" {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, entry.Name()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(info)) {
			if inode, on, found := watchOf(line); found && on == uint64(device) {
				inodes = append(inodes, inode)
			}
		}
	}
	return inodes
}

// watchOf reads a line as "inotify wd:1 ino:9e7e sdev:800013 mask:…" (proc_pid_fdinfo(5)), whose numbers are hexadecimal.
func watchOf(line string) (inode, device uint64, found bool) {
	if !strings.HasPrefix(line, "inotify ") && !strings.HasPrefix(line, "fanotify ino:") {
		return 0, 0, false
	}
	for _, field := range strings.Fields(line) {
		key, value, _ := strings.Cut(field, ":")
		number, err := strconv.ParseUint(value, 16, 64)
		switch {
		case key == "ino" && err == nil:
			inode, found = number, true
		case key == "sdev" && err == nil:
			device = number
		}
	}
	return inode, device, found
}

// errAllFound ends a walk.
var errAllFound = errors.New("all were found")

// pathsOf returns the paths of inodes below root, on one device.
func pathsOf(root string, device uint64, inodes map[uint64]bool) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root+"/.", func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		var status unix.Stat_t
		if err := unix.Lstat(path, &status); err != nil {
			return nil //nolint:nilerr // it has gone
		}
		if status.Dev != device {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !inodes[status.Ino] {
			return nil
		}
		delete(inodes, status.Ino)
		found = append(found, filepath.Join("/", strings.TrimPrefix(path, root)))
		if len(inodes) == 0 {
			return errAllFound
		}
		return nil
	})
	if errors.Is(err, errAllFound) {
		err = nil
	}
	return found, err
}
