package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// look answers GET /look?at=DIR with a line for every file below a folder, by its name: all that a captured tree has to bring back. With
// sum=1 it answers with their number and digest.
func look(w http.ResponseWriter, r *http.Request) {
	found, err := describe(r.FormValue("at"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if r.FormValue("sum") != "" {
		hash := sha256.New()
		_ = json.NewEncoder(hash).Encode(found) // names come in their order
		fmt.Fprintf(w, "%d files, %x", len(found), hash.Sum(nil))
		return
	}
	_ = json.NewEncoder(w).Encode(found)
}

// describe walks by open folders, so that no path is too long for it.
func describe(root string) (map[string]string, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	d := description{found: map[string]string{}, links: map[uint64]string{}, device: stat.Dev}
	return d.found, d.folder(os.NewFile(uintptr(fd), root), "")
}

// description is what is known of a tree so far: its lines, and the first names of files by their inodes.
type description struct {
	found map[string]string
	links map[uint64]string
	// device is that of the file system; what is mounted from another one is left out.
	device uint64
}

func (d *description) folder(dir *os.File, prefix string) error {
	defer dir.Close()
	if prefix == "" {
		if err := d.file(dir, ".", ""); err != nil {
			return err
		}
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		var stat unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if stat.Dev != d.device {
			continue
		}
		if err := d.file(dir, name, prefix); err != nil {
			return err
		}
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue
		}
		if err != nil {
			return err
		}
		if err := d.folder(os.NewFile(uintptr(fd), name), prefix+name+"/"); err != nil {
			return err
		}
	}
	return nil
}

// file writes the line of one file: mode, owner, links, time, size, whether it has holes, content and attributes.
func (d *description) file(dir *os.File, name, prefix string) error {
	at := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
	info, err := os.Lstat(at)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	line := fmt.Sprintf("%s %d:%d %d", info.Mode(), stat.Uid, stat.Gid, info.ModTime().UnixNano())
	if info.Mode()&fs.ModeDevice != 0 {
		line += fmt.Sprintf(" device %d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	}
	quoted := strings.Trim(fmt.Sprintf("%+q", prefix+name), `"`)
	if !info.IsDir() {
		first, seen := d.links[stat.Ino]
		if !seen {
			d.links[stat.Ino] = quoted
		}
		line += fmt.Sprintf(" links=%d%s", stat.Nlink, map[bool]string{true: " as " + first}[seen])
	}
	content, err := contentOf(at, info)
	if err != nil {
		return err
	}
	attributes, err := attributesOf(at)
	if err != nil {
		return err
	}
	d.found[quoted] = line + content + attributes
	return nil
}

func contentOf(path string, info fs.FileInfo) (string, error) {
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		return " to " + target, err
	}
	if !info.Mode().IsRegular() {
		return "", nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text := fmt.Sprintf(" size=%d", info.Size())
	sum, err := digest(file)
	if err != nil {
		return "", err
	}
	if info.Sys().(*syscall.Stat_t).Blocks*512 < info.Size()/2 {
		text += " with holes"
	}
	return text + " " + sum, nil
}

// block is what a digest looks at, in bytes: file systems make holes of whole ones.
const block = 4096

// digest covers where a file has something else than zeros, and what: zeros and holes are the same to whoever reads them.
func digest(file *os.File) (string, error) {
	hash := sha256.New()
	buffer, zero := make([]byte, block), make([]byte, block)
	for offset := int64(0); ; {
		start, err := unix.Seek(int(file.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return hex.EncodeToString(hash.Sum(nil))[:16], nil
		}
		if err != nil {
			return "", err
		}
		if offset, err = unix.Seek(int(file.Fd()), start, unix.SEEK_HOLE); err != nil {
			return "", err
		}
		for start = start / block * block; start < offset; start += block {
			n, err := file.ReadAt(buffer, start)
			if n == 0 && err != nil {
				return "", err
			}
			if !bytes.Equal(buffer[:n], zero[:n]) {
				fmt.Fprint(hash, start, " ")
				hash.Write(buffer[:n])
			}
		}
	}
}

func attributesOf(path string) (string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	all := strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00")
	slices.Sort(all)
	var text strings.Builder
	for _, name := range all {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("%s of %s: %w", name, path, err)
		}
		sum := sha256.Sum256(value[:n])
		fmt.Fprintf(&text, " %s=%x", name, sum[:4])
	}
	return text.String(), nil
}

// base returns a folder for a test, new.
func base(at string) (string, error) {
	err := os.MkdirAll(at, 0o755)
	return filepath.Clean(at), err
}
