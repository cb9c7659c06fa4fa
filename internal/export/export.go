package export

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// The names in an archive (https://github.com/checkpoint-restore/checkpointctl/blob/main/lib/metadata.go).
const (
	configDump = "config.dump"
	specDump   = "spec.dump"
	dumpLog    = "dump.log"
	statsDump  = "stats-dump"
	rootfsDiff = "rootfs-diff.tar"
	devShm     = "devshm-checkpoint.tar"
	volumes    = "volumes"
	images     = "checkpoint"
)

// Pod is a captured pod.
type Pod struct {
	files  fs.FS
	record *capture.Capture
}

// Open reads the record of a capture, of which files has the folder. One that is not complete is an error.
func Open(files fs.FS) (*Pod, error) {
	data, err := fs.ReadFile(files, capture.FileName)
	if err != nil {
		return nil, err
	}
	record, err := capture.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", capture.FileName, err)
	}
	if record.State != capture.Complete {
		return nil, fmt.Errorf("%s: state is %q; it may be %q", capture.FileName, record.State, capture.Complete)
	}
	return &Pod{files: files, record: record}, nil
}

// Containers returns the names of the containers that were captured.
func (p *Pod) Containers() []string {
	names := make([]string, len(p.record.Containers))
	for i := range p.record.Containers {
		names[i] = p.record.Containers[i].Name
	}
	return names
}

// Write writes the archive of a container, a tar, in one pass and without holding more than a buffer of it. Changes of the root file system become a layer
// as those of an image, with its whiteouts, and holes of files are written out; for that, /dev/shm, volumes and root file system are looked through twice.
func (p *Pod) Write(w io.Writer, container string) error {
	i := slices.IndexFunc(p.record.Containers, func(c capture.Container) bool { return c.Name == container })
	if i < 0 {
		return fmt.Errorf("container is %q; it may be one of %q", container, p.Containers())
	}
	a := &archive{files: p.files, out: tar.NewWriter(w), modified: p.checkpointed()}
	if err := a.container(p, &p.record.Containers[i]); err != nil {
		return fmt.Errorf("archive of container %q: %w", container, err)
	}
	return a.out.Close()
}

// checkpointed is when no instruction of the pod ran any more.
func (p *Pod) checkpointed() time.Time { return p.record.Started.Add(p.record.Timings.Frozen) }

type archive struct {
	files    fs.FS
	out      *tar.Writer
	modified time.Time
}

func (a *archive) container(p *Pod, c *capture.Container) error {
	config, spec, err := p.metadata(c)
	if err != nil {
		return err
	}
	if err := errors.Join(a.data(specDump, spec), a.data(configDump, config)); err != nil {
		return err
	}
	folder := path.Join("containers", c.Name)
	for _, name := range []string{dumpLog, statsDump} {
		if err := a.copy(name, path.Join("log", c.Name, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := a.tree(rootfsDiff, path.Join(folder, "rootfs.tar"), asLayer); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have no overlay
		return err
	}
	if p.record.Shm {
		if err := a.tree(devShm, "pod/shm.tar", asIs); err != nil {
			return err
		}
	}
	for _, name := range p.record.Volumes {
		if err := a.tree(path.Join(volumes, name+".tar"), path.Join("volumes", name+".tar"), asIs); err != nil {
			return err
		}
	}
	return a.images(path.Join(folder, "criu"))
}

// data writes a file of the archive.
func (a *archive) data(name string, data []byte) error {
	return a.file(name, int64(len(data)), a.modified, bytes.NewReader(data))
}

func (a *archive) file(name string, size int64, modified time.Time, content io.Reader) error {
	if err := a.out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: modified}); err != nil {
		return err
	}
	if _, err := io.CopyN(a.out, content, size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// copy copies a file of the capture.
func (a *archive) copy(name, from string) error {
	file, err := a.files.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return a.file(name, info.Size(), info.ModTime(), file)
}

// tree copies an archive of the capture, converted. Its size has to be known beforehand.
func (a *archive) tree(name, from string, kind kind) error {
	size := int64(0)
	measure := func(r io.Reader) error { return convert((*counter)(&size), r, kind, false) }
	if err := a.each(from, measure); err != nil {
		return err
	}
	if err := a.out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: a.modified}); err != nil {
		return err
	}
	return a.each(from, func(r io.Reader) error { return convert(a.out, r, kind, true) })
}

// each reads a file of the capture.
func (a *archive) each(from string, read func(io.Reader) error) error {
	file, err := a.files.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := read(file); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}

// images copies CRIU's images.
func (a *archive) images(from string) error {
	return fs.WalkDir(a.files, from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := images + strings.TrimPrefix(name, from)
		if entry.IsDir() {
			return a.out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: to + "/", Mode: 0o700, ModTime: a.modified})
		}
		return a.copy(to, name)
	})
}

// counter counts what is written.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
