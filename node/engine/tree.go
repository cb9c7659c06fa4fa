package engine

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// archiveBuffer is how much of an archive is written at once, in bytes.
const archiveBuffer = 1 << 20

// harmless are the devices that every container may use (https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md), and the one that
// stands for a removal in an overlay. Only these are captured and restored.
var harmless = []uint64{
	unix.Mkdev(0, 0), unix.Mkdev(1, 3), unix.Mkdev(1, 5), unix.Mkdev(1, 7), unix.Mkdev(1, 8), unix.Mkdev(1, 9), unix.Mkdev(5, 0),
}

// visit is told of a file: the open folder that it lies in, its name there, and its path below the root of the walk, which is "." for the root. Its error
// fs.SkipDir leaves out what lies in it.
type visit func(folder int, name, path string, stat *unix.Stat_t) error

// walk tells visit of everything below root, a folder before what is in it, names in their order. It goes by open folders: no path is too long
// for it, no name has to be text, and it does not leave the tree even when a program that is not held exchanges what lies there for links.
func walk(ctx context.Context, root string, tell visit) error {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: root, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if err := tell(fd, ".", ".", &stat); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	return walkFolder(ctx, fd, "", tell)
}

// walkFolder closes the folder.
func walkFolder(ctx context.Context, fd int, prefix string, tell visit) error {
	folder := os.NewFile(uintptr(fd), prefix)
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		var stat unix.Stat_t
		err := unix.Fstatat(fd, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) { // of a program that is not held
			continue
		}
		if err == nil {
			err = tell(fd, name, prefix+name, &stat)
		}
		if errors.Is(err, fs.SkipDir) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%q: %w", prefix+name, err)
		}
		if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		below, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%q: %w", prefix+name, err)
		}
		if err := walkFolder(ctx, below, prefix+name+"/", tell); err != nil {
			return err
		}
	}
	return nil
}

// treeWriter writes a tree as a tar: owners, modes, times, links, extended attributes, holes, and an overlay's removals, which are character
// devices 0:0. Sockets are left out, as they belong to processes; a device that not every container may use is an error.
type treeWriter struct {
	archive *tar.Writer
	links   map[uint64]string // the first names of files that have several, by their inodes
	buffer  []byte
	// whole is the folder of the whole tree of which this one holds changes; empty where there is no such tree.
	whole string
}

// writeTree writes everything below root. Where root holds the changes of an overlay, whole is the mounted overlay.
func writeTree(ctx context.Context, w io.Writer, root, whole string) error {
	return writePart(ctx, w, root, whole, func(tell visit) visit { return tell })
}

// writePart writes that of which the visit that part returns tells the one that it is given.
func writePart(ctx context.Context, w io.Writer, root, whole string, part func(visit) visit) error {
	buffered := bufio.NewWriterSize(w, archiveBuffer)
	writer := treeWriter{archive: tar.NewWriter(buffered), links: map[uint64]string{}, buffer: make([]byte, archiveBuffer), whole: whole}
	if err := walk(ctx, root, part(writer.entry)); err != nil {
		return fmt.Errorf("copy %s: %w", root, err)
	}
	return errors.Join(writer.archive.Close(), buffered.Flush())
}

func (w *treeWriter) entry(folder int, name, path string, stat *unix.Stat_t) error {
	h := &tar.Header{
		Name: path, Mode: int64(stat.Mode & 0o7777), Uid: int(stat.Uid), Gid: int(stat.Gid), Format: tar.FormatPAX,
		ModTime: time.Unix(stat.Mtim.Unix()), AccessTime: time.Unix(stat.Atim.Unix()),
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return w.file(folder, name, h, stat)
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, path+"/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(folder, name, target)
		if err != nil {
			return err
		}
		h.Linkname = string(target[:n])
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR:
		if !slices.Contains(harmless, stat.Rdev) {
			return fmt.Errorf("it is a device, %d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
		}
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
	case unix.S_IFSOCK:
		return nil
	default:
		return errors.New("it is a device")
	}
	if first, ok := w.links[stat.Ino]; ok && !isFolder(stat) {
		return w.link(h, first)
	}
	if stat.Nlink > 1 && !isFolder(stat) {
		w.links[stat.Ino] = path
	}
	var err error
	if h.PAXRecords, err = attributes(pathIn(folder, name)).records(); err != nil {
		return err
	}
	return w.archive.WriteHeader(h)
}

func isFolder(stat *unix.Stat_t) bool { return stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// pathIn names what lies in an open folder to calls that take no folder.
func pathIn(folder int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(folder) + "/" + name
}

// link writes that a file is another name of an earlier one.
func (w *treeWriter) link(h *tar.Header, first string) error {
	h.Typeflag, h.Linkname, h.Size, h.Devmajor, h.Devminor = tar.TypeLink, first, 0, 0, 0
	return w.archive.WriteHeader(h)
}

func (w *treeWriter) file(folder int, name string, h *tar.Header, stat *unix.Stat_t) error {
	h.Typeflag = tar.TypeReg
	if first, ok := w.links[stat.Ino]; ok {
		return w.link(h, first)
	}
	if stat.Nlink > 1 {
		w.links[stat.Ino] = h.Name
	}
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(folder, name, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // for the rights of a container it is somebody else's
		fd, err = unix.Openat(folder, name, flags, 0)
	}
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil || now.Ino != stat.Ino || now.Dev != stat.Dev {
		return errors.Join(err, errors.New("it changed while it was copied"))
	}
	all, err := attributes(pathIn(folder, name)).read()
	if err != nil {
		return err
	}
	if all.outsourced() { // an overlay that keeps changed attributes and unchanged content apart
		if file, err = w.content(h.Name, now.Size); err != nil {
			return err
		}
		defer file.Close()
	}
	h.PAXRecords = all.records()
	return w.data(file, h, now.Size, now.Blocks*512)
}

// content opens a file of the whole tree.
func (w *treeWriter) content(path string, size int64) (*os.File, error) {
	if w.whole == "" {
		return nil, errors.New("its content is in a layer of the image that cannot be found")
	}
	whole, err := os.OpenRoot(w.whole)
	if err != nil {
		return nil, err
	}
	defer whole.Close()
	file, err := whole.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || info.Size() != size || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("its content in the image is another one"), file.Close())
	}
	return file, nil
}

// data writes a header, and the content of a file of that size: what is a hole costs nothing.
func (w *treeWriter) data(file *os.File, h *tar.Header, size, allocated int64) error {
	parts := []extent{{Length: size}}
	if allocated < size {
		var err error
		if parts, err = extentsOf(int(file.Fd()), size); err != nil {
			return err
		}
	}
	h.Size = lengthOf(parts)
	if h.Size < size {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[capture.SparseRecord] = capture.SparseMap(size, parts)
	}
	if err := w.archive.WriteHeader(h); err != nil {
		return err
	}
	for _, part := range parts {
		if _, err := io.CopyBuffer(onlyWriter{w.archive}, io.NewSectionReader(file, part.Offset, part.Length), w.buffer); err != nil {
			return err
		}
	}
	return nil
}

// onlyWriter hides what else a writer can, so that io.CopyBuffer uses the buffer.
type onlyWriter struct{ io.Writer }

// saveTree writes the tree below root into the file target. The disk may not have it yet when it returns.
func saveTree(ctx context.Context, root, whole, target string) error {
	file, err := createArchive(target)
	if err != nil {
		return err
	}
	err = writeTree(ctx, file, root, whole)
	return errors.Join(err, file.Close())
}

func createArchive(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// treeSize returns about what the archive of a tree takes, in bytes. A file system that compresses takes less than that on its disk.
func treeSize(root string) (int64, error) {
	return partSize(root, func(tell visit) visit { return tell })
}

// partSize returns that of what writePart writes.
func partSize(root string, part func(visit) visit) (int64, error) {
	const head = 2048 // of an entry: its header, and one for what does not fit there
	sum, counted := int64(0), map[uint64]bool{}
	err := walk(context.Background(), root, part(func(_ int, _, _ string, stat *unix.Stat_t) error {
		sum += head
		if stat.Mode&unix.S_IFMT != unix.S_IFREG || counted[stat.Ino] {
			return nil
		}
		if stat.Nlink > 1 {
			counted[stat.Ino] = true
		}
		sum += min(stat.Size, stat.Blocks*512)
		return nil
	}))
	return sum, err
}
