package runtime

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/node/engine"
)

// exec is refused from the freeze on: what would run then is in no dump. What runs before may leave a process behind, which is captured as one
// of the container's own; so it gets nothing of the node's that could not be captured.
func (f *front) exec() error {
	c, err := f.recall()
	if err != nil || c == nil || !c.Selected() {
		return f.pass()
	}
	_, values := f.words.operands()
	_, detached := values["detach"]
	_, short := values["d"]
	err = engine.BeginExec(f.node, c.Pod.UID, detached || short) // else the lock would be held for as long as the session lasts
	if errors.Is(err, engine.ErrCapturing) {
		return fmt.Errorf("pod %s/%s: %w", c.Pod.Namespace, c.Pod.Name, err)
	}
	if err != nil {
		f.engine(c.Pod).Log("exec: %v", err)
	}
	if err := useOwnNull(c); err != nil {
		f.engine(c.Pod).Log("exec: %v", err)
	}
	return f.pass()
}

// useOwnNull replaces the node's /dev/null among this process's standard input and outputs by the container's. A file outside of the container's
// mounts cannot be captured.
func useOwnNull(c *engine.Container) error {
	var own *os.File
	for fd := range 3 {
		var stat unix.Stat_t
		if err := unix.Fstat(fd, &stat); err != nil || !engine.IsNull(&stat) {
			continue
		}
		if own == nil {
			var err error
			if own, err = c.OpenNull(); err != nil {
				return fmt.Errorf("open /dev/null of container %q: %w", c.Name, err)
			}
			defer own.Close()
		}
		if err := unix.Dup3(int(own.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return nil
}
