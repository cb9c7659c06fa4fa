package engine

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// treeReader writes the entries of a tar below a folder. Names and links cannot lead out of it, whatever the tar says: no link is followed on the
// way to any of them.
type treeReader struct {
	archive *tar.Reader
	buffer  []byte
	// alone has the root stay as it is.
	alone bool
	// most bounds the entries; 0 does not.
	most int
	// open are the folders on the way to the last entry, the root first. They stay open, since an archive has what is in a folder behind it.
	open []openFolder
}

// openFolder is a folder that is being filled. What the archive says of it is done when it is full, as filling it changes its times, and what a
// folder hands on to files in it is not to come on top of what the archive says of them.
type openFolder struct {
	name   string // of the folder in the one before
	fd     int
	header *tar.Header // nil where the archive says nothing
}

// readTree writes the entries of a tar below an open folder, which becomes what the tar says of its root.
func readTree(ctx context.Context, r io.Reader, root *os.File) error {
	return readBelow(ctx, r, root, treeReader{})
}

// readAtMost is readTree for an archive of which nobody knows whose it is. That it has more entries than most is an error.
func readAtMost(ctx context.Context, r io.Reader, root *os.File, most int) error {
	return readBelow(ctx, r, root, treeReader{most: most})
}

// readContent leaves the folder itself as it is.
func readContent(ctx context.Context, r io.Reader, root *os.File) error {
	return readBelow(ctx, r, root, treeReader{alone: true})
}

func readBelow(ctx context.Context, r io.Reader, root *os.File, t treeReader) error {
	fd, err := unix.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	t.archive, t.buffer, t.open = tar.NewReader(bufio.NewReaderSize(r, archiveBuffer)), make([]byte, archiveBuffer), []openFolder{{fd: fd}}
	err = t.all(ctx)
	return errors.Join(err, t.leave(0, err == nil))
}

func (t *treeReader) all(ctx context.Context) error {
	for entries := 0; ; entries++ {
		h, err := t.archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if t.most > 0 && entries == t.most {
			return fmt.Errorf("the archive has more than %d entries", t.most)
		}
		path := strings.TrimSuffix(h.Name, "/")
		if !filepath.IsLocal(path) {
			return fmt.Errorf("the archive names %q, which is outside", h.Name)
		}
		if path = filepath.Clean(path); path == "." {
			if h.Typeflag != tar.TypeDir {
				return fmt.Errorf("the root of the archive is of type %q", h.Typeflag)
			}
			if !t.alone {
				t.open[0].header = h
			}
			continue
		}
		if err := t.entry(ctx, path, h); err != nil {
			return fmt.Errorf("restore %q: %w", path, err)
		}
	}
}

// enter opens the folder of a path and returns it with the path's last name.
func (t *treeReader) enter(path string) (folder int, name string, err error) {
	words := strings.Split(path, "/")
	way, name := words[:len(words)-1], words[len(words)-1]
	same := 0
	for same < len(way) && same+1 < len(t.open) && t.open[same+1].name == way[same] {
		same++
	}
	if err := t.leave(same+1, true); err != nil {
		return 0, "", err
	}
	for _, word := range way[same:] {
		fd, err := openFolderIn(t.open[len(t.open)-1].fd, word)
		if err != nil {
			return 0, "", err
		}
		t.open = append(t.open, openFolder{name: word, fd: fd})
	}
	return t.open[len(t.open)-1].fd, name, nil
}

func openFolderIn(folder int, name string) (int, error) {
	fd, err := unix.Openat(folder, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open folder", Path: name, Err: err}
	}
	return fd, nil
}

// leave closes all but so many folders. Those that are full get what the archive says of them.
func (t *treeReader) leave(left int, full bool) error {
	var all error
	for len(t.open) > left {
		last := t.open[len(t.open)-1]
		t.open = t.open[:len(t.open)-1]
		if full && last.header != nil {
			if err := setAttributes(last.fd, ".", last.header); err != nil {
				all = errors.Join(all, fmt.Errorf("restore folder %q: %w", last.header.Name, err))
			}
		}
		all = errors.Join(all, unix.Close(last.fd))
	}
	return all
}

func (t *treeReader) entry(ctx context.Context, path string, h *tar.Header) error {
	folder, name, err := t.enter(path)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return t.folder(folder, name, h)
	case tar.TypeReg:
		return t.file(ctx, folder, name, h)
	case tar.TypeLink:
		return t.link(folder, name, h.Linkname)
	case tar.TypeSymlink:
		err = unix.Symlinkat(h.Linkname, folder, name)
	case tar.TypeFifo:
		err = unix.Mknodat(folder, name, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar:
		device := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		if !slices.Contains(harmless, device) || h.Devmajor>>32 != 0 || h.Devminor>>32 != 0 {
			return fmt.Errorf("it is a device, %d:%d", h.Devmajor, h.Devminor)
		}
		err = unix.Mknodat(folder, name, unix.S_IFCHR|0o600, int(device))
	default:
		return fmt.Errorf("it is of type %q", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return setAttributes(folder, name, h)
}

func (t *treeReader) folder(folder int, name string, h *tar.Header) error {
	if err := unix.Mkdirat(folder, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	fd, err := openFolderIn(folder, name)
	if err == nil {
		t.open = append(t.open, openFolder{name, fd, h})
	}
	return err
}

// link gives an earlier file of the archive another name.
func (t *treeReader) link(folder int, name, target string) error {
	if !filepath.IsLocal(target) {
		return fmt.Errorf("it is a link to %q, which is outside", target)
	}
	words := strings.Split(filepath.Clean(target), "/")
	from := t.open[0].fd
	for _, word := range words[:len(words)-1] {
		fd, err := openFolderIn(from, word)
		if err != nil {
			return err
		}
		next := os.NewFile(uintptr(fd), word)
		defer next.Close()
		from = fd
	}
	return unix.Linkat(from, words[len(words)-1], folder, name, 0)
}

func (t *treeReader) file(ctx context.Context, folder int, name string, h *tar.Header) error {
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") { // whose size is not bounded by what the archive has
			return fmt.Errorf("it has the record %s; it may have %s", record, capture.SparseRecord)
		}
	}
	size, parts := h.Size, []extent{{Length: h.Size}}
	if record, sparse := h.PAXRecords[capture.SparseRecord]; sparse {
		var err error
		if size, parts, err = capture.ParseSparse(record, h.Size); err != nil {
			return err
		}
	}
	fd, err := unix.Openat(folder, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	if err := writeParts(ctx, file, t.archive, size, parts, t.buffer); err != nil {
		return err
	}
	return setAttributesOf(fd, folder, name, h)
}

// setAttributes sets owner, extended attributes, mode and times, in this order: a change of owner clears mode bits and capabilities.
func setAttributes(folder int, name string, h *tar.Header) error {
	fd, err := unix.Openat(folder, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return setAttributesOf(fd, folder, name, h)
}

// setAttributesOf sets those of an open file. Its mode is set by way of its descriptor: the call that takes a name follows links on kernels
// before 6.6, and the one that takes a descriptor takes none that was opened for its path alone.
func setAttributesOf(fd, folder int, name string, h *tar.Header) error {
	if err := unix.Fchownat(folder, name, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("owner %d:%d: %w", h.Uid, h.Gid, err)
	}
	if err := attributes(pathIn(folder, name)).write(h.PAXRecords); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), uint32(h.Mode&0o7777)); err != nil {
			return fmt.Errorf("mode %o: %w", h.Mode, err)
		}
	}
	accessed := h.AccessTime
	if accessed.IsZero() {
		accessed = h.ModTime
	}
	times := []unix.Timespec{timespec(accessed), timespec(h.ModTime)}
	if err := unix.UtimesNanoAt(folder, name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}

// timespec has its nanoseconds from 0 on, also before 1970.
func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// loadTree writes the tree in the file source below root.
func loadTree(ctx context.Context, source, root string) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer file.Close()
	into, err := os.Open(root)
	if err != nil {
		return err
	}
	defer into.Close()
	return readTree(ctx, file, into)
}
