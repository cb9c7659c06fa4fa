package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	remap_file_path "github.com/checkpoint-restore/go-criu/v8/crit/images/remap-file-path"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// removedSuffix is behind the path of an open file whose name was removed.
const removedSuffix = " (deleted)"

// relink brings back names that CRIU gave to files, for the copies of the file systems to have them, and returns what takes them away again.
// An open file of which one name was removed and another is left, as a POSIX semaphore has it, gets a name by which CRIU finds it at the
// restore (--link-remap); as the processes do not end with the dump, it removes that name
// (https://github.com/checkpoint-restore/criu/blob/v4.2/criu/cr-dump.c).
func relink(images string, m member) (undo func() error, err error) {
	wanted, err := linkedNames(images)
	undo = func() error { return nil }
	if err != nil || len(wanted) == 0 {
		return undo, err
	}
	pids, err := m.group.processes()
	if err != nil {
		return undo, err
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", m.pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return undo, err
	}
	var made []string
	undo = func() error {
		defer unix.Close(root)
		var all error
		for _, name := range made {
			all = errors.Join(all, inFolderOf(root, name, func(folder int, base string) error { return unix.Unlinkat(folder, base, 0) }))
		}
		return all
	}
	for _, pid := range pids {
		for _, open := range openedBy(pid) {
			target, err := os.Readlink(open)
			former, removed := strings.CutSuffix(strings.TrimPrefix(target, "/"), removedSuffix)
			if err != nil || !removed {
				continue
			}
			for _, name := range wanted[former] {
				err := inFolderOf(root, name, func(folder int, base string) error {
					return unix.Linkat(unix.AT_FDCWD, open, folder, base, unix.AT_SYMLINK_FOLLOW)
				})
				if err != nil {
					return undo, fmt.Errorf("name %q for an open file: %w", name, err)
				}
				made = append(made, name)
			}
			delete(wanted, former)
		}
	}
	return undo, nil
}

// openedBy returns the links below /proc to what a process has open or mapped.
func openedBy(pid int) []string {
	var all []string
	for _, folder := range []string{"fd", "map_files"} {
		dir := fmt.Sprintf("/proc/%d/%s", pid, folder)
		entries, _ := os.ReadDir(dir) // it may have ended
		for _, entry := range entries {
			all = append(all, filepath.Join(dir, entry.Name()))
		}
	}
	return all
}

// inFolderOf calls work with the folder of a path below root, opened without leaving it, and the last part of the path.
func inFolderOf(root int, path string, work func(folder int, base string) error) error {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	folder, err := unix.Openat2(root, filepath.Dir(path), how)
	if err != nil {
		return err
	}
	defer unix.Close(folder)
	return work(folder, filepath.Base(path))
}

// linkedNames returns the names that CRIU gave, by the removed ones: paths in the container without the slash at the beginning.
func linkedNames(images string) (map[string][]string, error) {
	data, err := os.ReadFile(filepath.Join(images, "remap-fpath.img"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	former := map[uint32][]uint32{} // by the file's new name
	if _, err := mapEntries(data, func(entry []byte) ([]byte, error) {
		remap := &remap_file_path.RemapFilePathEntry{}
		err := proto.Unmarshal(entry, remap)
		if err == nil && remap.GetRemapType() == remap_file_path.RemapType_LINKED {
			former[remap.GetRemapId()] = append(former[remap.GetRemapId()], remap.GetOrigId())
		}
		return entry, err
	}); err != nil || len(former) == 0 {
		return nil, err
	}
	names := map[uint32]string{}
	files, err := os.ReadFile(filepath.Join(images, "files.img"))
	if err != nil {
		return nil, err
	}
	if _, err := editFiles(files, func(file *fdinfo.FileEntry) bool {
		if reg := file.GetReg(); reg != nil {
			names[reg.GetId()] = strings.TrimPrefix(reg.GetName(), "/")
		}
		return false
	}); err != nil {
		return nil, err
	}
	wanted := map[string][]string{}
	for id, origins := range former {
		for _, origin := range origins {
			wanted[names[origin]] = append(wanted[names[origin]], names[id])
		}
	}
	return wanted, nil
}
