package engine

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// UndoCutOff looks for restores of the pod's containers that were killed in the middle, and brings what the containers share back to what it was
// before, so that one of them can be made as if nothing had been tried. Where the program cannot have run, its restore may be tried again; else it
// has failed, and the others are not restored either.
func (e *Engine) UndoCutOff(c *Container) error {
	results, err := filepath.Glob(e.Node.ResultFile(c.Pod.UID, "*"))
	if err != nil || len(results) == 0 {
		return err
	}
	lock, err := lockRestore(e.Node, c.Pod.UID, restorePatience)
	if err != nil {
		return err
	}
	defer lock.release() // while we hold it, nobody is at any of them
	err = e.putBackPod(c.Pod.UID)
	for _, file := range results {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "result-"), ".json")
		result, readErr := e.Node.Result(c.Pod.UID, name)
		if errors.Is(readErr, fs.ErrNotExist) || readErr == nil && result.Outcome != capture.Attempted {
			continue
		}
		if readErr == nil {
			readErr = e.undoOne(c, name, result)
		}
		err = errors.Join(err, readErr)
	}
	return err
}

// undoOne undoes the restore of the container of that name.
func (e *Engine) undoOne(c *Container, name string, result *capture.Result) error {
	e.Log("container %q: a restore was cut off, and is undone", name)
	uid := c.Pod.UID
	if err := errors.Join(killProcessesOf(result.ContainerID), e.takeOut(uid, name), e.undoShared(c, name)); err != nil {
		return err
	}
	if c.Network != "" && !e.holds(uid) {
		if err := filterLoopback(c.Network, false); err != nil {
			return err
		}
	}
	if e.mayTryAgain(uid, name, result) { // others that are held wait on for it
		count, _ := os.ReadFile(e.triesFile(uid, name))
		if err := os.WriteFile(e.triesFile(uid, name), append(count, '.'), 0o600); err != nil {
			return err
		}
		return removeFile(e.Node.ResultFile(uid, name))
	}
	result.Outcome, result.Message = capture.RestoreFailed, "the restore was cut off"
	return errors.Join(capture.WriteJSON(e.Node.ResultFile(uid, name), result), e.endHold(context.Background(), uid))
}

// triesFile counts, in its bytes, how often the restore of a container was cut off.
func (e *Engine) triesFile(podUID, container string) string {
	return filepath.Join(e.Node.Restores(podUID), "tries-"+container)
}

// mayTryAgain tells of an attempt that was cut off whether it may be begun anew: its program cannot have run, and it is not always cut off.
func (e *Engine) mayTryAgain(podUID, container string, result *capture.Result) bool {
	count, err := os.ReadFile(e.triesFile(podUID, container))
	if result.Consumed || result.Again > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	most := capture.DefaultAttempts
	if d, err := e.Node.Decision(podUID); err == nil {
		most = cmp.Or(d.Attempts, most)
	}
	return len(count)+1 < most
}

// undoShared brings back what the container of that name shares with others of its pod.
func (e *Engine) undoShared(c *Container, name string) error {
	first, err := e.runsAlone(c.Pod.UID, name)
	if !first || err != nil { // it has been brought for another one, too, which runs
		return err
	}
	var all error
	if c.Shm != "" {
		all = errors.Join(all, undo(c.Shm))
	}
	for _, dir := range c.Volumes {
		parts, err := subPathsOf(dir)
		all = errors.Join(all, err, undo(dir), mountSubPaths(dir, parts))
	}
	if c.IPC != "" {
		all = errors.Join(all, emptyIPC(c.IPC))
	}
	return errors.Join(all, removeFile(podFilesNote(e.Node, c.Pod.UID)))
}

// runsAlone tells whether no other container of the pod runs, to which shared objects could belong.
func (e *Engine) runsAlone(podUID, name string) (bool, error) {
	containers, err := containersOf(e.Node, podUID)
	for _, other := range containers {
		if _, alive := other.pid(); alive && !other.IsSandbox() && other.Name != name {
			return false, nil
		}
	}
	return true, err
}

// killProcessesOf ends what is left of a container that the OCI runtime knows nothing of: it was killed while CRIU restored.
func killProcessesOf(id string) error {
	if id == "" {
		return nil
	}
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range files {
		groups, readErr := os.ReadFile(file)
		pid, numberErr := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if readErr != nil || numberErr != nil || !strings.Contains(string(groups), id) {
			continue
		}
		group, groupErr := cgroupOf(pid)
		if killErr := unix.Kill(pid, unix.SIGKILL); killErr != nil && !errors.Is(killErr, unix.ESRCH) {
			err = errors.Join(err, killErr)
		}
		if frozen, frozenErr := group.frozen(); groupErr == nil && frozenErr == nil && frozen { // or it would never end
			err = errors.Join(err, group.thaw())
		}
	}
	return err
}

// removeFile removes a file, which need not be there.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
