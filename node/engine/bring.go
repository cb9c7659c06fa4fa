package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// largestWindow bounds what a file in a volume can have us remember of what it held before, in bytes.
const largestWindow = 32 << 20

// mostEntries bounds the files and folders of a state in a volume: each takes something of the node's disk before it is known whether the file is the one
// that was written. A state has some hundreds; one that has more is not kept in the volume.
const mostEntries = 20_000

// lostFileError says that a state is not in its storage volume, or not as it was written.
type lostFileError struct {
	file, volume, why string
}

func (e *lostFileError) Error() string {
	return fmt.Sprintf("the state in %s, file %s, %s", e.volume, filepath.Join(capture.KeptFolder, e.file), e.why)
}

// bring brings the state from the storage volume of the new pod to the folder that the decision names, unless that was done for another container. Nothing of
// it has that name before all of the file was read, and found to be what was written.
func (r *restoration) bring(ctx context.Context) error {
	if r.Kept == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(r.Directory, capture.FileName)); err == nil {
		return nil
	}
	volume := r.Container.Settings.StorageVolume
	if volume == nil {
		return errors.New("the state is kept in a volume, and the pod has no storage volume")
	}
	if volume.Mounts[r.Container.Name] == "" {
		return fmt.Errorf("the state is kept in %s, which container %q does not mount, and no container that does was made before", volume, r.Container.Name)
	}
	source, err := mountedAt(r.spec, volume.Mounts[r.Container.Name])
	if err != nil {
		return fmt.Errorf("%s: %w", volume, err)
	}
	partial, restores := r.Directory+partialSuffix, r.engine.Node.Restores(r.Container.Pod.UID)
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(partial, 0o700)); err != nil { // of one that was cut off
		return err
	}
	if err := r.engine.reserve(restores, r.Kept.ContentBytes); err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	defer func() { _ = capture.Unreserve(restores) }()
	r.engine.Log("container %q brings %s from %s", r.Container.Name, r.Kept.Name, volume)
	kept := *r.Kept
	_, err = withoutHanging(ctx, func() (any, error) { return nil, unpackKept(ctx, source, volume, &kept, partial) })
	if err == nil {
		err = completeKept(partial)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(partial))
	}
	return os.Rename(partial, r.Directory)
}

// unpackKept writes the content of a file in the volume at source into a folder. That the file is not there, or not what was written, is a lostFileError.
func unpackKept(ctx context.Context, source string, volume *capture.StorageVolume, kept *capture.KeptFile, into string) error {
	file, err := openState(source, volume, kept)
	if err != nil {
		return err
	}
	defer file.Close()
	fits, err := unpack(ctx, file, kept, into)
	if !fits {
		return &lostFileError{kept.Name, volume.String(), "is not what was written: its SHA-256 is another one"}
	}
	return err
}

// openState opens a file in the volume at source, if it can be what was written.
func openState(source string, volume *capture.StorageVolume, kept *capture.KeptFile) (*os.File, error) {
	lost := func(format string, args ...any) error {
		return &lostFileError{kept.Name, volume.String(), fmt.Sprintf(format, args...)}
	}
	if _, _, is := capture.ParseKeptName(kept.Name); !is {
		return nil, lost("has no name of a state")
	}
	folder, err := openKept(source, false)
	if err == nil {
		defer folder.Close()
		var file *os.File
		if file, err = folder.open(kept.Name, unix.O_RDONLY); err == nil {
			info, statErr := file.Stat()
			switch {
			case statErr != nil:
				return nil, errors.Join(statErr, file.Close())
			case !info.Mode().IsRegular():
				return nil, errors.Join(lost("is no file"), file.Close())
			case info.Size() != kept.SizeBytes:
				return nil, errors.Join(lost("is not what was written: it has %d bytes, and had %d", info.Size(), kept.SizeBytes), file.Close())
			}
			return file, nil
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, lost("is not there")
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENXIO):
		return nil, lost("is no file: %v", err)
	}
	return nil, fmt.Errorf("%s: %w", volume, err)
}

// unpack writes the content of a file into a folder, and tells whether the file is what was written. If not, the content means nothing.
func unpack(ctx context.Context, file io.Reader, kept *capture.KeptFile, dir string) (fits bool, err error) {
	sum := sha256.New()
	counted := &limited{from: io.TeeReader(file, sum), left: kept.SizeBytes, ctx: ctx}
	err = unpackTree(ctx, counted, kept.ContentBytes, dir)
	if ctx.Err() != nil {
		return true, context.Cause(ctx)
	}
	if _, readErr := io.Copy(io.Discard, counted); readErr != nil { // what the tar did not need
		return true, errors.Join(readErr, err)
	}
	return counted.left == 0 && "sha256:"+hex.EncodeToString(sum.Sum(nil)) == kept.Digest, err
}

// unpackTree writes a compressed tar into a folder, of no more bytes than most and no more than mostEntries files and folders.
func unpackTree(ctx context.Context, compressed io.Reader, most int64, dir string) error {
	plain, err := zstd.NewReader(compressed, zstd.WithDecoderMaxWindow(largestWindow))
	if err != nil {
		return err
	}
	defer plain.Close() // it reads ahead until then
	into, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer into.Close()
	if err := readAtMost(ctx, io.LimitReader(plain, most), into, mostEntries); err != nil {
		return err
	}
	if n, _ := plain.Read(make([]byte, 1)); n > 0 {
		return fmt.Errorf("there is more in it than the %d bytes that were written", most)
	}
	return nil
}

// completeKept has a state that was written before its capture had come to its end say that it is complete.
func completeKept(dir string) error {
	record, err := capture.Read(dir)
	if err != nil {
		return err
	}
	if record.State == capture.Dumped {
		record.State = capture.Complete
	}
	return capture.NoteJSON(filepath.Join(dir, capture.FileName), record)
}

// limited reads no more than so many bytes, and as long as the context lives.
type limited struct {
	from io.Reader
	left int64
	ctx  context.Context
}

func (b *limited) Read(p []byte) (int, error) {
	switch {
	case b.ctx.Err() != nil:
		return 0, context.Cause(b.ctx)
	case b.left == 0:
		return 0, io.EOF
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
