package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// execPatience is how long a capture waits for what is being started in its pod by exec.
const execPatience = 3 * time.Second

// execLock is the file whose flock is shared by all that are starting a process in a pod by exec, and is held alone by whoever captures it. So a
// capture finds such a process in the container or not at all, and never on its way.
func execLock(node capture.Node, podUID string) (*os.File, error) {
	dir := filepath.Join(node.Root, "run/checkpoint/execs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, podUID), os.O_CREATE|os.O_RDWR, 0o600)
}

// ErrCapturing says that a pod is held to be captured.
var ErrCapturing = errors.New("it is being captured, and goes: nothing can be started in it")

// BeginExec shares the lock on behalf of this process and, with keep, of the program that it becomes: until that has started what it is to start,
// and ends. It fails with ErrCapturing when somebody holds it alone.
func BeginExec(node capture.Node, podUID string, keep bool) error {
	file, err := execLock(node, podUID)
	if err != nil {
		return err
	}
	defer file.Close()
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrCapturing
	}
	if err == nil && keep {
		_, err = unix.Dup(int(file.Fd())) // without close-on-exec, and never closed by us
	}
	return err
}

// endExecs waits until nothing is being started in a pod by exec any more, and keeps it so until the lock is released.
func endExecs(node capture.Node, podUID string) (*podLock, error) {
	file, err := execLock(node, podUID)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	return lockFile(file.Name(), execPatience)
}

// IsNull tells whether a file is /dev/null.
func IsNull(stat *unix.Stat_t) bool {
	return stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == unix.Mkdev(1, 3)
}

// OpenNull opens the /dev/null that the container's processes see. What else may lie there is not opened.
func (c *Container) OpenNull() (*os.File, error) {
	pid, alive := c.pid()
	if !alive {
		return nil, os.ErrProcessDone
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	return openNull(root)
}

// openNull opens /dev/null below a folder.
func openNull(root int) (*os.File, error) {
	found, err := unix.Openat2(root, "dev/null", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return nil, err
	}
	defer unix.Close(found)
	var stat unix.Stat_t
	if err := unix.Fstat(found, &stat); err != nil {
		return nil, err
	}
	if !IsNull(&stat) {
		return nil, errors.New("it is something else")
	}
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", found), os.O_RDWR, 0)
}
