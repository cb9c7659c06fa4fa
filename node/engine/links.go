package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	remap "github.com/checkpoint-restore/go-criu/v8/crit/images/remap-file-path"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// linksFile lies in a partial folder as long as there are names in a pod's files that were made for its restore.
const linksFile = "links.json"

// link is a name that was made in the mount namespace of a process.
type link struct {
	PID  int    `json:"pid"`
	Path string `json:"path"`
}

// relink gives files names again that are open under a name that is gone, but have another one somewhere. CRIU makes these names when it dumps,
// finds the files by them when it restores, and removes them again when the processes are to stay, as they are here until all is written.
func (a *attempt) relink(m member, images string) error {
	wanted, err := linkedRemaps(images)
	if err != nil || len(wanted) == 0 {
		return err
	}
	if err := a.noteLinks(m, wanted); err != nil {
		return err
	}
	pids, err := m.group.processes()
	if err != nil {
		return err
	}
	for name, former := range wanted {
		source, err := openAs(pids, former)
		if err == nil {
			err = makeName(m.pid, name, source)
		}
		if err != nil {
			return fmt.Errorf("open file %q, whose name is gone: %w", former, err)
		}
	}
	return nil
}

// noteLinks writes down which names there will be, for whoever has to remove them.
func (a *attempt) noteLinks(m member, wanted map[string]string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range wanted {
		a.links = append(a.links, link{m.pid, name})
	}
	return capture.WriteJSON(filepath.Join(a.dir, linksFile), a.links)
}

// linkedRemaps returns the names that CRIU made and removed again, each with the name under which the file was opened.
func linkedRemaps(images string) (map[string]string, error) {
	remaps := map[uint32]uint32{} // of the open file, that of the made name
	entries, err := decodeImage(filepath.Join(images, "remap-fpath.img"), maxFilesSize, &remap.RemapFilePathEntry{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the names of removed files: %w", err)
	}
	for _, r := range entries {
		if r.RemapType != nil && r.GetRemapType() == remap.RemapType_LINKED {
			remaps[r.GetOrigId()] = r.GetRemapId()
		}
	}
	if len(remaps) == 0 {
		return nil, nil
	}
	files, err := decodeImage(filepath.Join(images, "files.img"), maxFilesSize, &fdinfo.FileEntry{})
	if err != nil {
		return nil, fmt.Errorf("read the open files: %w", err)
	}
	names := map[uint32]string{}
	for _, file := range files {
		if reg := file.GetReg(); reg != nil {
			names[reg.GetId()] = reg.GetName()
		}
	}
	wanted := map[string]string{}
	for open, made := range remaps {
		if names[open] == "" || names[made] == "" {
			return nil, fmt.Errorf("the dump names a file of the number %d or %d, and has none", open, made)
		}
		wanted[names[made]] = names[open]
	}
	return wanted, nil
}

// openAs returns a path in /proc by which an open file can be reached that was opened under a name that is gone. Two different ones of that name are
// an error, as the dump does not tell which is which.
func openAs(pids []int, name string) (string, error) {
	found, inode := "", uint64(0)
	for _, pid := range pids {
		process := filepath.Join("/proc", strconv.Itoa(pid))
		candidates := []string{process + "/exe", process + "/cwd"}
		for _, folder := range []string{"fd", "map_files"} {
			entries, err := os.ReadDir(filepath.Join(process, folder))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			for _, entry := range entries {
				candidates = append(candidates, filepath.Join(process, folder, entry.Name()))
			}
		}
		for _, candidate := range candidates {
			target, err := os.Readlink(candidate)
			if err != nil || strings.TrimSuffix(target, " (deleted)") != name {
				continue
			}
			var stat unix.Stat_t
			if err := unix.Stat(candidate, &stat); err != nil || stat.Nlink == 0 {
				continue
			}
			if found != "" && stat.Ino != inode {
				return "", errors.New("two different files of that name are open")
			}
			found, inode = candidate, stat.Ino
		}
	}
	if found == "" {
		return "", errors.New("no process has it open")
	}
	return found, nil
}

// makeName links an open file to a name in the mount namespace of a process.
func makeName(pid int, name, source string) error {
	folder, err := folderIn(pid, filepath.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(folder)
	return unix.Linkat(unix.AT_FDCWD, source, folder, filepath.Base(name), unix.AT_SYMLINK_FOLLOW)
}

// folderIn opens a folder as a process sees it, by no link.
func folderIn(pid int, path string) (int, error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	return unix.Openat2(root, "."+filepath.Join("/", path), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// unlink removes the names that were made for a restore which will not be: those that a partial folder tells of.
func (e *Engine) unlink(dir string) {
	data, err := os.ReadFile(filepath.Join(dir, linksFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var links []link
	if err = errors.Join(err, json.Unmarshal(data, &links)); err != nil {
		e.Log("names that were made for a restore: %v", err)
		return
	}
	for _, l := range links {
		folder, err := folderIn(l.PID, filepath.Dir(l.Path))
		if err == nil {
			err = errors.Join(unix.Unlinkat(folder, filepath.Base(l.Path), 0), unix.Close(folder))
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			e.Log("remove %s, which was made for a restore: %v", l.Path, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, linksFile)); err != nil {
		e.Log("%v", err)
	}
}
