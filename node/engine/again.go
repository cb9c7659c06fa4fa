package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// PrepareAgain has the next restore of a container, which ran before and has ended, bring what its pod shares anew: emptyDirs, /dev/shm and
// System V objects are to be as its memory is. No other container of the pod may run, which would have them change under it.
func (e *Engine) PrepareAgain(c *Container) error {
	lock, err := lockRestore(e.Node, c.Pod.UID, restorePatience)
	if err != nil {
		return err
	}
	defer lock.release()
	containers, err := containersOf(e.Node, c.Pod.UID)
	if err != nil {
		return err
	}
	for _, other := range containers {
		if _, runs := other.pid(); runs && !other.IsSandbox() && other.ID != c.ID {
			return fmt.Errorf("container %q runs, which shares what would be brought back", other.Name)
		}
	}
	if c.IPC != "" {
		err = emptyIPC(c.IPC)
	}
	return errors.Join(err, removeFile(podFilesNote(e.Node, c.Pod.UID)))
}

// TakeOwn has a container that is created again go on from the last state that its pod left while it went on, if there is one that the line of the
// container leads to, and returns the decision as it is by then, and whether there was one. Nothing is claimed for it: the pod's work stays its own.
func (e *Engine) TakeOwn(c *Container, line *capture.Line) (d *capture.Decision, found bool, err error) {
	lock, err := lockRestore(e.Node, c.Pod.UID, restorePatience)
	if err != nil {
		return nil, false, err
	}
	defer lock.release()
	if d, err = e.Node.Decision(c.Pod.UID); err != nil {
		return nil, false, err
	}
	dir, record := e.lastOwn(c, line)
	if record == nil {
		return d, false, nil
	}
	state := capture.Fetched{Checkpoint: record.Trigger.Asks.Checkpoint}
	state.Directory = e.Node.State(c.Pod.UID, state.Checkpoint)
	if d.Own && d.Checkpoint == state.Checkpoint && d.Directory == state.Directory {
		return d, true, nil
	}
	if others := len(record.Containers) - 1; others > 0 {
		return d, true, fmt.Errorf("it was captured together with %d others, which have moved on", others)
	}
	partial := state.Directory + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.RemoveAll(state.Directory)); err != nil {
		return d, true, err
	}
	if err := errors.Join(linkTree(dir, partial), os.Rename(partial, state.Directory)); err != nil {
		return d, true, err
	}
	if err := e.Node.GoOnFrom(c.Pod.UID, d, state, c.Name); err != nil {
		return d, true, err
	}
	e.dropOtherStates(c.Pod.UID, state.Directory)
	return d, true, nil
}

// lastOwn returns the newest whole state of a pod that went on, with the container of that name as it has been since it began; nil when there is none.
func (e *Engine) lastOwn(c *Container, line *capture.Line) (dir string, record *capture.Capture) {
	entries, err := os.ReadDir(e.Node.Captures(c.Pod.UID))
	if err != nil {
		return "", nil
	}
	for _, entry := range entries {
		path := filepath.Join(e.Node.Captures(c.Pod.UID), entry.Name())
		found, err := capture.Read(path)
		if err != nil || found.State != capture.Complete || !found.Trigger.IsLive() || !isNumber(entry.Name()) || !e.Node.IsWhole(path, found) {
			continue
		}
		isOurs := slices.ContainsFunc(found.Containers, func(x capture.Container) bool { return x.Name == c.Name && slices.Contains(line.Containers, x.ID) })
		if isOurs && (record == nil || found.Sequence > record.Sequence) {
			dir, record = path, found
		}
	}
	return dir, record
}

// dropOtherStates removes those states of a pod that nothing is restored from any more. They only take room: what cannot be removed stays.
func (e *Engine) dropOtherStates(podUID, keep string) {
	dir := e.Node.States(podUID)
	below, err := filepath.Rel(dir, keep)
	if err != nil || !filepath.IsLocal(below) {
		return
	}
	for name := range strings.SplitSeq(below, "/") { // the folder of this boot among those of others, and in it that of the state
		entries, err := os.ReadDir(dir)
		if err != nil {
			return
		}
		for _, entry := range entries {
			if entry.Name() != name {
				_ = os.RemoveAll(filepath.Join(dir, entry.Name()))
			}
		}
		dir = filepath.Join(dir, name)
	}
}

// isNumber tells whether a name is that of a finished capture's folder.
func isNumber(name string) bool {
	_, err := strconv.Atoi(name)
	return err == nil
}
