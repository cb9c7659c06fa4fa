package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keyOf names the layer that packages make above a base; their order does not matter.
func keyOf(base string, packages []string) string {
	sorted := slices.Sorted(slices.Values(packages))
	sum := sha256.Sum256([]byte(base + "\n" + strings.Join(sorted, "\n")))
	return hex.EncodeToString(sum[:])[:12]
}

// tarFile writes a tar with one executable at the absolute path inside.
func tarFile(file, inside, target string) error {
	return withTar(target, func(w *tar.Writer) error {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: strings.TrimPrefix(inside, "/"), Mode: 0o755, Size: info.Size(), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		return copyFile(w, file)
	})
}

// tarTree writes a tree as an image layer. Where the tree is the upper folder of an overlay, what it removes from the tree below is
// written the way images say it: .wh.NAME for a file, .wh..wh..opq in a folder that hides the one below. edit, if there is one, has the
// last word on every header.
func tarTree(root, target string, edit func(*tar.Header)) error {
	return withTar(target, func(w *tar.Writer) error {
		links := map[uint64]string{}
		return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || path == root {
				return err
			}
			return addEntry(w, root, path, entry, links, edit)
		})
	})
}

// plain makes an entry root's, readable by everyone, and takes its times.
func plain(header *tar.Header) {
	mode := int64(0o644)
	if header.Typeflag == tar.TypeDir || header.Mode&0o111 != 0 {
		mode = 0o755
	}
	header.Uid, header.Gid, header.Mode = 0, 0, mode
	header.ModTime, header.AccessTime, header.ChangeTime = time.Unix(0, 0), time.Time{}, time.Time{}
}

func addEntry(w *tar.Writer, root, path string, entry fs.DirEntry, links map[uint64]string, edit func(*tar.Header)) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if info.Mode()&fs.ModeSocket != 0 {
		return nil // belongs to a process, not to an image
	}
	if info.Mode()&fs.ModeCharDevice != 0 && stat.Rdev == 0 {
		return w.WriteHeader(&tar.Header{Name: filepath.Join(filepath.Dir(name), ".wh."+filepath.Base(name)), Typeflag: tar.TypeReg, Mode: 0o644})
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name, header.Uname, header.Gname, header.Format = name, "", "", tar.FormatPAX
	if info.IsDir() {
		header.Name += "/"
	}
	if edit != nil {
		edit(header)
	}
	if first, ok := links[stat.Ino]; ok && info.Mode().IsRegular() {
		header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		return w.WriteHeader(header)
	}
	if stat.Nlink > 1 && info.Mode().IsRegular() {
		links[stat.Ino] = name
	}
	if err := addCapabilities(header, path); err != nil {
		return err
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		return copyFile(w, path)
	}
	if info.IsDir() && isOpaque(path) {
		return w.WriteHeader(&tar.Header{Name: filepath.Join(name, ".wh..wh..opq"), Typeflag: tar.TypeReg, Mode: 0o644})
	}
	return nil
}

// addCapabilities keeps file capabilities, the one extended attribute that Debian's packages set.
func addCapabilities(header *tar.Header, path string) error {
	value := make([]byte, 64)
	n, err := unix.Lgetxattr(path, "security.capability", value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	header.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": string(value[:n])}
	return nil
}

func isOpaque(path string) bool {
	value := make([]byte, 1)
	n, err := unix.Lgetxattr(path, "trusted.overlay.opaque", value)
	return err == nil && n == 1 && value[0] == 'y'
}

func withTar(target string, fill func(*tar.Writer) error) (err error) {
	file, err := os.Create(target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := tar.NewWriter(file)
	if err := fill(w); err != nil {
		return err
	}
	return w.Close()
}

func copyFile(w io.Writer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(w, file)
	return err
}
