package engine

import (
	"archive/tar"
	"bytes"
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
// are character devices 0:0. Sockets are left out, as they belong to processes; a real device cannot be restored, and is an error. It does not
// leave the tree, even if a program that is not held exchanges what lies there for links.
func writeTree(w io.Writer, root string) error {
	from, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer from.Close()
	archive := tar.NewWriter(w)
	links := map[uint64]string{}
	err = fs.WalkDir(from.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = writeEntry(archive, from, name, links)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", root, err)
	}
	return archive.Close()
}

func writeEntry(archive *tar.Writer, from *os.Root, name string, links map[uint64]string) error {
	info, err := from.Lstat(name)
	if err != nil {
		return err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	if info.Mode()&fs.ModeDevice != 0 && stat.Rdev != 0 {
		return fmt.Errorf("%s is a device", name)
	}
	header, err := headerOf(from, name, info)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return archive.WriteHeader(header)
	}
	if first, ok := links[stat.Ino]; ok && info.Mode().IsRegular() {
		header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		return archive.WriteHeader(header)
	}
	if stat.Nlink > 1 && info.Mode().IsRegular() {
		links[stat.Ino] = header.Name
	}
	file, err := from.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if now, err := file.Stat(); err != nil || !os.SameFile(now, info) {
		return errors.Join(err, fmt.Errorf("%s changed while it was copied", name))
	}
	if header.PAXRecords, err = xattrsOf(int(file.Fd())); err != nil {
		return fmt.Errorf("attributes of %s: %w", name, err)
	}
	if err := archive.WriteHeader(header); err != nil || info.IsDir() {
		return err
	}
	_, err = io.CopyN(archive, file, header.Size)
	return err
}

func headerOf(from *os.Root, name string, info fs.FileInfo) (*tar.Header, error) {
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = from.Readlink(name); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, err
	}
	header.Name, header.Uname, header.Gname, header.Format = name, "", "", tar.FormatPAX
	if info.IsDir() {
		header.Name += "/"
	}
	return header, nil
}

// xattrsOf reads the extended attributes of an open file, less those by which an overlay finds the lower file again on the node it was on.
func xattrsOf(fd int) (map[string]string, error) {
	size, err := unix.Flistxattr(fd, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]byte, size)
	if size, err = unix.Flistxattr(fd, names); err != nil {
		return nil, err
	}
	records := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.overlay.") && name != "trusted.overlay.opaque" && name != "trusted.overlay.redirect" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		records[xattrPrefix+name] = string(value[:n])
	}
	return records, nil
}

// readTree writes the entries of a tar below a folder. Names and links cannot lead out of it, whatever the tar says; a device, other than
// an overlay's removal where those are allowed, is refused.
func readTree(r io.Reader, into *os.Root, removals bool) error {
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
	err = copySparse(file, content, h.Size)
	return errors.Join(err, file.Close())
}

// copySparse writes size bytes, and leaves holes where whole blocks are zero.
func copySparse(file *os.File, content io.Reader, size int64) error {
	var zero [64 << 10]byte
	block := make([]byte, len(zero))
	for offset := int64(0); offset < size; {
		n, err := io.ReadFull(content, block[:min(int64(len(block)), size-offset)])
		if err != nil {
			return err
		}
		if !bytes.Equal(block[:n], zero[:n]) {
			if _, err := file.WriteAt(block[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
	}
	return file.Truncate(size)
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
	into, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer into.Close()
	return readTree(file, into, removals)
}
