package engine

import (
	"errors"
	"fmt"
)

// PrepareAgain has the next restore of a container, which was restored before and has ended, bring what its pod shares anew: emptyDirs, /dev/shm and
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
