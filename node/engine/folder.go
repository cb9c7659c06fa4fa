package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// limitsFile lies in a partial folder as long as limits of the pod are lifted: what to put back.
const limitsFile = "limits.json"

// nextSequence returns the number of a pod's next capture.
func nextSequence(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	last := 0
	for _, entry := range entries {
		if n, err := strconv.Atoi(strings.TrimSuffix(entry.Name(), ".partial")); err == nil {
			last = max(last, n)
		}
	}
	return last + 1, nil
}

// publish gives a partial folder its final name, and returns that.
func publish(dir string, sequence int) (string, error) {
	final := filepath.Join(filepath.Dir(dir), strconv.Itoa(sequence))
	return final, os.Rename(dir, final)
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// syncTree has everything below dir on the disk when it returns.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() && !entry.Type().IsRegular() {
			return nil
		}
		return syncFile(path)
	})
}

// sizeOf returns what the files below dir take on the disk, in bytes.
func sizeOf(dir string) (int64, error) { return capture.DiskUsage(dir) }

// checkSpace compares what the capture will take with the pod's own bound and with the disk.
func (a *attempt) checkSpace() (capture.Reason, error) {
	need := int64(0)
	for _, m := range a.members {
		further, err := a.engine.furtherSize(m)
		if err != nil {
			return capture.ReasonFilesFailed, err
		}
		need += m.group.memory() + further
	}
	for _, tree := range a.trees() {
		size, err := treeSize(tree.source)
		if err != nil {
			return capture.ReasonFilesFailed, err
		}
		need += size
	}
	if bound := a.record.Settings.VolumeSizeBytes; bound > 0 && need > bound {
		return capture.ReasonVolumeSizeExceeded, fmt.Errorf("the state takes about %d MiB; memverge.ai/checkpoint-volume-size allows %d MiB", need>>20, bound>>20)
	}
	err := a.engine.reserve(a.dir, need)
	if errors.As(err, new(*capture.NoSpaceError)) {
		return capture.ReasonNoSpace, err
	}
	if err != nil {
		return capture.ReasonFilesFailed, err
	}
	return "", nil
}

// reserve reserves room on the node's disk for what will be written into dir, and makes it if it can.
func (e *Engine) reserve(dir string, need int64) error {
	err := e.Node.Reserve(dir, need)
	if full := (*capture.NoSpaceError)(nil); errors.As(err, &full) {
		if err = e.dropUploaded(need - full.Free); err == nil {
			err = e.Node.Reserve(dir, need)
		}
	}
	return err
}

// dropUploaded makes room of so many bytes, if it can: captures that the bucket has are kept for a quick restore only.
func (e *Engine) dropUploaded(need int64) error {
	files, err := filepath.Glob(filepath.Join(e.Node.CapturesRoot(), "*", "[0-9]*", capture.UploadedFile))
	if err != nil {
		return err
	}
	for _, file := range files {
		if need <= 0 {
			break
		}
		dir := filepath.Dir(file)
		size, err := sizeOf(dir)
		if err != nil {
			return err
		}
		gone := filepath.Join(filepath.Dir(dir), "removed-"+filepath.Base(dir)) // as the agent does
		if err := os.Rename(dir, gone); err != nil {
			continue // the agent was faster
		}
		e.Log("dropped %s, which the bucket has, to make room", dir)
		if err := os.RemoveAll(gone); err != nil {
			return err
		}
		need -= size
	}
	return nil
}

// tree is a file tree that is captured, and the archive it goes into, relative to the capture's folder. Where it holds the changes of an overlay, whole
// is the mounted overlay.
type tree struct{ source, archive, whole string }

// trees are the file trees of the members: root file systems one by one, /dev/shm and each emptyDir once.
func (a *attempt) trees() []tree {
	var all []tree
	for _, m := range a.members {
		if m.Upper != "" {
			all = append(all, tree{m.Upper, filepath.Join("containers", m.Name, "rootfs.tar"), m.root()})
		}
	}
	if shm := a.members[0].Shm; shm != "" {
		all = append(all, tree{shm, shmArchive, ""})
	}
	for _, m := range a.members {
		for name, source := range m.Volumes {
			if t := (tree{source, volumeArchive(name), ""}); !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	return all
}

const shmArchive = "pod/shm.tar"

func volumeArchive(name string) string { return filepath.Join("volumes", name+".tar") }

// copyFiles writes the archives of all trees.
func (a *attempt) copyFiles(ctx context.Context) error {
	for _, t := range a.trees() {
		target := filepath.Join(a.dir, t.archive)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := saveTree(ctx, t.source, t.whole, target); err != nil {
			return err
		}
		if name, isVolume := strings.CutPrefix(t.archive, "volumes/"); isVolume {
			a.record.Volumes = append(a.record.Volumes, strings.TrimSuffix(name, ".tar"))
		}
		a.record.Shm = a.record.Shm || t.archive == shmArchive
	}
	slices.Sort(a.record.Volumes)
	for _, m := range a.members {
		if err := a.copyFurther(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// clearStrangers ends exec sessions and probes, which are in the containers' groups and in nobody's dump. On version 1 the freezer holds off
// their end, so the group is thawed for that moment.
func (a *attempt) clearStrangers(ctx context.Context) error {
	for _, m := range a.members {
		for try := 0; ; try++ {
			strangers, err := m.group.strangers(m.pid)
			if err != nil || len(strangers) == 0 {
				break
			}
			if try == 3 {
				return fmt.Errorf("processes %v in container %q do not end", strangers, m.Name)
			}
			if err := a.endStrangers(ctx, m, strangers); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *attempt) endStrangers(ctx context.Context, m member, strangers []int) error {
	a.engine.Log("container %q: ending %d processes from outside, exec sessions or probes", m.Name, len(strangers))
	for _, pid := range strangers {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	if m.group.unified == "" {
		if err := m.OCI().Resume(ctx, m.ID); err != nil {
			return err
		}
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if left, err := m.group.strangers(m.pid); err != nil || len(left) == 0 {
			break
		}
	}
	if m.group.unified == "" {
		return m.OCI().Pause(ctx, m.ID)
	}
	return nil
}
