package engine

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// xattrPrefix is where tar keeps extended attributes among its records (as GNU tar and libarchive do).
const xattrPrefix = "SCHILY.xattr."

// writeTree writes everything below root as a tar: owners, modes, times, links, extended attributes, and an overlay's removals, which
// are character devices 0:0. Sockets are left out, as they belong to processes; a real device cannot be restored, and is an error.
func writeTree(w io.Writer, root string) error {
	archive := tar.NewWriter(w)
	links := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return writeEntry(archive, root, path, entry, links)
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", root, err)
	}
	return archive.Close()
}

func writeEntry(archive *tar.Writer, root, path string, entry fs.DirEntry, links map[uint64]string) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	if info.Mode()&fs.ModeDevice != 0 && stat.Rdev != 0 {
		return fmt.Errorf("%s is a device", path)
	}
	header, err := headerOf(root, path, info)
	if err != nil {
		return err
	}
	if first, ok := links[stat.Ino]; ok && info.Mode().IsRegular() {
		header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		return archive.WriteHeader(header)
	}
	if stat.Nlink > 1 && info.Mode().IsRegular() {
		links[stat.Ino] = header.Name
	}
	if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.CopyN(archive, file, header.Size)
	return err
}

func headerOf(root, path string, info fs.FileInfo) (*tar.Header, error) {
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	name, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	header.Name, header.Uname, header.Gname, header.Format = name, "", "", tar.FormatPAX
	if info.IsDir() {
		header.Name += "/"
	}
	header.PAXRecords, err = xattrsOf(path)
	return header, err
}

// xattrsOf reads the extended attributes of a file, less those by which an overlay finds the lower file again on the node it was on.
func xattrsOf(path string) (map[string]string, error) {
	size, err := unix.Llistxattr(path, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(path, names); err != nil {
		return nil, err
	}
	records := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.overlay.") && name != "trusted.overlay.opaque" && name != "trusted.overlay.redirect" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("attribute %s of %s: %w", name, path, err)
		}
		records[xattrPrefix+name] = string(value[:n])
	}
	return records, nil
}

// readTree writes the entries of a tar below root. Names and links cannot lead out of it, whatever the tar says; a device, other than
// an overlay's removal where those are allowed, is refused.
func readTree(r io.Reader, root string, removals bool) error {
	into, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer into.Close()
	archive := tar.NewReader(r)
	var directories []*tar.Header
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		header.Name = strings.TrimSuffix(header.Name, "/")
		if !filepath.IsLocal(header.Name) {
			return fmt.Errorf("the archive names %q, which is outside", header.Name)
		}
		if err := readEntry(archive, into, header, removals); err != nil {
			return fmt.Errorf("restore %q: %w", header.Name, err)
		}
		if header.Typeflag == tar.TypeDir {
			directories = append(directories, header)
		}
	}
	for i := len(directories) - 1; i >= 0; i-- { // what was written into them changed their times
		if err := into.Chtimes(directories[i].Name, directories[i].ModTime, directories[i].ModTime); err != nil {
			return err
		}
	}
	return nil
}

func readEntry(content io.Reader, into *os.Root, h *tar.Header, removals bool) error {
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		if err = into.Mkdir(h.Name, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case tar.TypeReg:
		err = readFile(content, into, h)
	case tar.TypeSymlink:
		err = into.Symlink(h.Linkname, h.Name)
	case tar.TypeLink:
		return into.Link(h.Linkname, h.Name)
	case tar.TypeFifo:
		err = makeNode(into, h.Name, unix.S_IFIFO)
	case tar.TypeChar:
		if !removals || h.Devmajor != 0 || h.Devminor != 0 {
			return errors.New("it is a device")
		}
		err = makeNode(into, h.Name, unix.S_IFCHR)
	default:
		return fmt.Errorf("it is of type %q", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return setAttributes(into, h)
}

func readFile(content io.Reader, into *os.Root, h *tar.Header) error {
	file, err := into.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}

// makeNode makes a special file in its folder, which is opened without leaving the root.
func makeNode(into *os.Root, name string, kind uint32) error {
	folder, err := into.OpenFile(filepath.Dir(name), unix.O_DIRECTORY, 0) // a pipe in its place would keep a mere open waiting
	if err != nil {
		return err
	}
	defer folder.Close()
	return unix.Mknodat(int(folder.Fd()), filepath.Base(name), kind|0o600, 0)
}

// setAttributes sets owner, extended attributes, mode and times, in this order: a change of owner clears mode bits and capabilities.
func setAttributes(into *os.Root, h *tar.Header) error {
	if err := into.Lchown(h.Name, h.Uid, h.Gid); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeChar {
		return nil
	}
	file, err := into.OpenFile(h.Name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	for record, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(record, xattrPrefix); ok {
			if err := unix.Fsetxattr(int(file.Fd()), name, []byte(value), 0); err != nil {
				return fmt.Errorf("attribute %s: %w", name, err)
			}
		}
	}
	if err := file.Chmod(fs.FileMode(h.Mode&0o777) | specialBits(h.Mode)); err != nil {
		return err
	}
	return into.Chtimes(h.Name, h.ModTime, h.ModTime)
}

func specialBits(mode int64) (bits fs.FileMode) {
	for bit, is := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			bits |= is
		}
	}
	return bits
}

// saveTree writes the tree below root into the file target, durably.
func saveTree(root, target string) error {
	file, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = writeTree(file, root)
	return errors.Join(err, file.Sync(), file.Close())
}

// loadTree writes the tree in the file source below root.
func loadTree(source, root string, removals bool) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer file.Close()
	return readTree(file, root, removals)
}
