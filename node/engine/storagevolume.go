package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

const (
	// partialSuffix ends the name of a file that is being written into a storage volume.
	partialSuffix = ".partial"
	// keptOthers is how many states of a line stay in a storage volume beside the one that was written last.
	keptOthers = 1
	// mostNames is how many names are looked at in the folder of a storage volume for the states of a line, and namesAtOnce how many of them are in memory.
	mostNames, namesAtOnce = 1_000_000, 1024
	// volumeTries is how often whoever settles a capture begins to write it into a storage volume.
	volumeTries = 2
	// volumePatience bounds what writing a state may take, where nothing else does.
	volumePatience = 15 * time.Minute
	// stuckPatience is for how long a volume that does not answer is waited for when there is no more time.
	stuckPatience = 2 * time.Second
)

// keepInVolume writes a capture, of which everything is in its folder, into the storage volume of its pod, if it has one, and says in the record what came of
// that. Containers of the pod have to be there, or the volume may not be mounted any more. When it fails, the capture is as safe as without a storage volume.
func (e *Engine) keepInVolume(ctx context.Context, dir string, record *capture.Capture) {
	volume := record.Settings.StorageVolume
	if volume == nil || record.Kept != nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, volumePatience, fmt.Errorf("it has not taken the state after %s", volumePatience))
	defer cancel()
	began, work := time.Now(), *record
	kept, err := withoutHanging(ctx, func() (*capture.KeptFile, error) { return e.keep(ctx, dir, &work, volume) })
	record.Timings.Volume, record.Kept, record.NotKept = time.Since(began), kept, ""
	if err != nil {
		record.NotKept = fmt.Sprintf("%s: %v", volume, err)
		e.Log("the state is not kept in %s", record.NotKept)
	} else {
		e.Log("%s is in %s after %s, %d MiB of %d", kept.Name, volume, record.Timings.Volume, kept.SizeBytes>>20, kept.ContentBytes>>20)
	}
	if err := record.Write(dir); err != nil {
		e.Log("%v", err)
	}
}

// volumeTriesFile counts, in the folder of a capture, how often that was.
const volumeTriesFile = "attempts-volume"

// keepSettled is keepInVolume for a capture that was cut off when it was dumped. If nothing of the pod runs the volume may be gone, and if the pod goes there
// is no more time than for a KILL. What has cut it off may do so each time, so it is not tried without end.
func (a *attempt) keepSettled(ctx context.Context, dir string, record *capture.Capture) {
	if len(a.members) == 0 || record.Settings.StorageVolume == nil || record.Kept != nil {
		return
	}
	if record.Trigger.IsTermination() {
		if _, err := os.Stat(filepath.Join(dir, killedFile)); err == nil {
			return
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, killPatience, errKillDue)
		defer cancel()
	}
	file := filepath.Join(dir, volumeTriesFile)
	tries, _ := os.ReadFile(file)
	if len(tries) < volumeTries && os.WriteFile(file, append(tries, '.'), 0o600) == nil {
		a.engine.keepInVolume(ctx, dir, record)
		return
	}
	record.NotKept = fmt.Sprintf("%s: it was begun %d times to write the state there, and cut off each time", record.Settings.StorageVolume, 1+len(tries))
	a.engine.Log("the state is not kept in %s", record.NotKept)
	if err := record.Write(dir); err != nil {
		a.engine.Log("%v", err)
	}
}

// withoutHanging does work on a volume, which ends with the context if the volume answers. If it does not, nobody waits for the work any more, and what
// comes of it counts for nothing.
func withoutHanging[T any](ctx context.Context, work func() (T, error)) (value T, err error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := work()
		done <- outcome{value, err}
	}()
	select {
	case came := <-done:
		return came.value, came.err
	case <-ctx.Done():
	}
	select {
	case came := <-done:
		return came.value, came.err
	case <-time.After(stuckPatience):
		return value, fmt.Errorf("it does not answer: %w", context.Cause(ctx))
	}
}

// keep writes a capture into a volume, and removes those of its line that are too many then.
func (e *Engine) keep(ctx context.Context, dir string, record *capture.Capture, volume *capture.StorageVolume) (*capture.KeptFile, error) {
	source, err := e.sourceOf(record.Pod.UID, volume)
	if err != nil {
		return nil, err
	}
	folder, err := openKept(source, true)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	line := e.keptLine(record, volume)
	name := capture.KeptName(record.Pod.Name, line, fmt.Sprintf("%s-%d", record.Started.UTC().Format("20060102T150405"), record.Sequence))
	others, err := folder.prune(ctx, line, name, keptOthers) // of attempts that were cut off, too
	if err != nil {
		return nil, err
	}
	kept, err := folder.write(ctx, name, dir)
	// The last state of a pod is worth more than one from before, which goes if that helps. Of one that goes on there will be others.
	if full := (*fullVolumeError)(nil); errors.As(err, &full) && record.Trigger.IsTermination() && full.had+folder.sizeOf(others) >= full.needs {
		e.Log("%s is full; once more without the older states of the pod's line", volume)
		if err = folder.remove(others...); err == nil {
			kept, err = folder.write(ctx, name, dir)
		}
	}
	if err != nil {
		return nil, err
	}
	if _, err := folder.prune(ctx, line, name, keptOthers); err != nil {
		e.Log("older states stay in %s: %v", volume, err)
	}
	return kept, nil
}

// fullVolumeError says that a volume has no room for a state, of which it was found out what it takes.
type fullVolumeError struct {
	cause      error
	needs, had int64 // bytes: had is what the volume took of it
}

func (e *fullVolumeError) Error() string {
	return fmt.Sprintf("%v: the state takes about %d MiB, and there is room for %d", e.cause, e.needs>>20, e.had>>20)
}

func (e *fullVolumeError) Unwrap() error { return e.cause }

// isFull tells whether an error says that there is no room, or that no more of it may be used.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// sourceOf returns the folder on the node at which a storage volume of a pod is mounted.
func (e *Engine) sourceOf(podUID string, volume *capture.StorageVolume) (source string, err error) {
	containers, err := containersOf(e.Node, podUID)
	for _, c := range containers {
		if volume.Mounts[c.Name] == "" {
			continue
		}
		spec, _, specErr := Bundle{c.Bundle}.Spec()
		if specErr == nil {
			source, specErr = mountedAt(spec, volume.Mounts[c.Name])
		}
		if specErr == nil {
			return source, nil
		}
		err = errors.Join(err, specErr)
	}
	return "", errors.Join(errors.New("no container of the pod is there that mounts it"), err)
}

// mountedAt returns the folder on the node that a spec mounts at a path of the container, to be written to.
func mountedAt(spec *specs.Spec, path string) (string, error) {
	for _, mount := range slices.Backward(spec.Mounts) { // the last one covers the others
		if filepath.Clean(mount.Destination) != filepath.Clean(path) {
			continue
		}
		if !isBind(mount) || slices.Contains(mount.Options, "ro") {
			return "", fmt.Errorf("what is mounted at %s is no volume that can be written to", path)
		}
		return mount.Source, nil
	}
	return "", fmt.Errorf("nothing is mounted at %s", path)
}

// keptLine is the line of the states of a pod: that of its place, or that of the state that it goes on from, or its own.
func (e *Engine) keptLine(record *capture.Capture, volume *capture.StorageVolume) string {
	uid := record.Pod.UID
	if volume.Line != "" {
		sum := sha256.Sum256([]byte(record.Pod.Namespace + "/" + volume.Line))
		return hex.EncodeToString(sum[:8])
	}
	d, err := e.Node.Decision(uid)
	if err != nil {
		return uid
	}
	return cmp.Or(e.Node.TakenLine(uid, d), uid)
}

// keptFolder is the folder of a storage volume that holds states. The programs of the pod can do in it as they like, so no link in it is followed and nothing
// is opened that is no file.
type keptFolder struct{ *os.File }

// openKept opens that of the volume at source, and makes it with create.
func openKept(source string, create bool) (keptFolder, error) {
	root, err := os.Open(source)
	if err != nil {
		return keptFolder{}, err
	}
	defer root.Close()
	folder, err := openInside(root, capture.KeptFolder)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := unix.Mkdirat(int(root.Fd()), capture.KeptFolder, 0o700); err != nil {
			return keptFolder{}, &os.PathError{Op: "make the folder", Path: capture.KeptFolder, Err: err}
		}
		if err := root.Sync(); err != nil {
			return keptFolder{}, err
		}
		folder, err = openInside(root, capture.KeptFolder)
	}
	if err != nil {
		return keptFolder{}, err
	}
	if create { // a server may map root to somebody else, who then may not
		_, _ = folder.Chown(0, 0), folder.Chmod(0o700)
	}
	return keptFolder{folder}, nil
}

// open opens a file of the folder.
func (f keptFolder) open(name string, flags int) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   uint64(flags | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC), // a pipe would wait for its other end
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = 0o600
	}
	fd, err := unix.Openat2(int(f.Fd()), name, how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(capture.KeptFolder, name), Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// write writes the folder of a capture into a file, which is there whole or not at all, also after a power cut. That there is no room for it is a
// fullVolumeError.
func (f keptFolder) write(ctx context.Context, name, dir string) (*capture.KeptFile, error) {
	partial := name + partialSuffix
	file, err := f.open(partial, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY)
	if err != nil {
		return nil, err
	}
	sum := &summing{to: file, sum: sha256.New()}
	kept := &capture.KeptFile{Name: name}
	if kept.ContentBytes, err = pack(ctx, sum, dir); err == nil {
		if err = sum.full; err == nil {
			err = file.Sync()
		}
		if isFull(err) {
			const further = 64 // a part of it: what a file system notes of a file, and a page more
			err = &fullVolumeError{cause: err, needs: sum.count + sum.count/further + 4096, had: allocated(int(file.Fd()), "")}
		}
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = unix.Renameat(int(f.Fd()), partial, int(f.Fd()), name)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Unlinkat(int(f.Fd()), partial, 0))
	}
	kept.SizeBytes, kept.Digest = sum.count, "sha256:"+hex.EncodeToString(sum.sum.Sum(nil))
	return kept, f.Sync()
}

// sizeOf returns how many bytes there would be room for without files of the folder.
func (f keptFolder) sizeOf(names []string) (sum int64) {
	for _, name := range names {
		sum += allocated(int(f.Fd()), name)
	}
	return sum
}

// allocated returns what a file takes that has no other name, in bytes; 0 for anything else. Without a name it is the open file itself.
func allocated(fd int, name string) int64 {
	var stat unix.Stat_t
	err := unix.Fstatat(fd, name, &stat, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	if err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Nlink != 1 {
		return 0
	}
	return stat.Blocks * 512
}

// inside opens the folder for what is done to names in it, whatever they are of.
func (f keptFolder) inside() (*os.Root, error) {
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// remove removes names of the folder.
func (f keptFolder) remove(names ...string) error {
	root, err := f.inside()
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range names {
		err = errors.Join(err, root.RemoveAll(name))
	}
	return err
}

// prune removes all states of a line but one, and those of the others that are the newest, of which it returns the names; and what was not written to its end.
func (f keptFolder) prune(ctx context.Context, line, keep string, others int) (left []string, err error) {
	root, err := f.inside()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var first error // of as many as there may be names
	err = f.each(ctx, mostNames, func(name string) {
		state, isPartial := strings.CutSuffix(name, partialSuffix)
		of, _, is := capture.ParseKeptName(state)
		if !is || of != line || name == keep {
			return
		}
		if !isPartial {
			left = append(left, name)
			if slices.SortFunc(left, newerFirst); len(left) <= others {
				return
			}
			name, left = left[others], left[:others]
		}
		if err := root.RemoveAll(name); err != nil && first == nil {
			first = err
		}
	})
	return left, errors.Join(err, first)
}

// newerFirst compares the names of two states by the times in them.
func newerFirst(x, y string) int {
	_, timeOfX, _ := capture.ParseKeptName(x)
	_, timeOfY, _ := capture.ParseKeptName(y)
	return strings.Compare(timeOfY, timeOfX)
}

// each tells of all names in the folder, which are few at a time in memory: any program of the pod can make as many as the volume takes. That there are more
// than most is an error.
func (f keptFolder) each(ctx context.Context, most int, tell func(name string)) error {
	all, err := f.open(".", unix.O_RDONLY|unix.O_DIRECTORY) // which begins at the first one
	if err != nil {
		return err
	}
	defer all.Close()
	for seen := 0; ; {
		names, err := all.Readdirnames(namesAtOnce)
		for _, name := range names {
			tell(name)
		}
		seen += len(names)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case seen > most:
			return fmt.Errorf("the folder %s has more than %d names; what is no state is to be removed from it", capture.KeptFolder, most)
		}
	}
}

// pack writes the folder of a capture as a compressed tar, and returns how many bytes that is when it is not compressed.
func pack(ctx context.Context, w io.Writer, dir string) (content int64, err error) {
	compressed, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return 0, err
	}
	plain := &counting{to: compressed, ctx: ctx}
	err = writePart(ctx, plain, dir, "", func(tell visit) visit { return withoutNotes(atMost(mostEntries, tell)) })
	return plain.count, errors.Join(err, compressed.Close())
}

// atMost has a visit of more than so many files and folders fail.
func atMost(most int, tell visit) visit {
	entries := 0
	return func(folder int, name, path string, stat *unix.Stat_t) error {
		if entries++; entries > most {
			return fmt.Errorf("the state has more than %d files and folders, which are too many for a file in a volume", most)
		}
		return tell(folder, name, path, stat)
	}
}

// withoutNotes leaves out what in the folder of a capture is of no use to who restores it.
func withoutNotes(tell visit) visit {
	return func(folder int, name, path string, stat *unix.Stat_t) error {
		switch path {
		case limitsFile, killedFile, linksFile, volumeTriesFile, capture.ReservedFile, capture.SyncedFile, capture.DiscardedFile:
			return fs.SkipDir
		}
		if strings.HasPrefix(path, "agent") {
			return fs.SkipDir
		}
		return tell(folder, name, path, stat)
	}
}

// counting counts what is written, as long as the context lives.
type counting struct {
	to    io.Writer
	ctx   context.Context
	count int64
}

func (c *counting) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.to.Write(p)
	c.count += int64(n)
	return n, err
}

// summing takes the sum of what is written. When there is no room for more of it, that is counted all the same.
type summing struct {
	to    io.Writer
	sum   hash.Hash
	count int64
	full  error // why not all of it was written
}

func (s *summing) Write(p []byte) (int, error) {
	if s.full == nil {
		n, err := s.to.Write(p)
		s.sum.Write(p[:n])
		if isFull(err) {
			s.full, err, n = err, nil, len(p)
		}
		s.count += int64(n)
		return n, err
	}
	s.count += int64(len(p))
	return len(p), nil
}
