package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// Signal is a stop signal that came for a container and has not been delivered: the capture stands between. It is a file below
// /run/checkpoint/signals/POD, so that whoever finds it after a crash can pay.
type Signal struct {
	ContainerID string `json:"containerID"`
	// Name is as runc takes it: SIGTERM, or 15.
	Name string    `json:"name"`
	Came time.Time `json:"came"`
}

// IsKill tells whether it is the one that cannot be caught.
func (s Signal) IsKill() bool {
	name := strings.TrimPrefix(strings.ToUpper(s.Name), "SIG")
	return name == "KILL" || name == "9"
}

// String is its name, as SIGTERM.
func (s Signal) String() string {
	if number, err := strconv.Atoi(s.Name); err == nil {
		return nameOf(syscall.Signal(number))
	}
	return "SIG" + strings.TrimPrefix(strings.ToUpper(s.Name), "SIG")
}

// The real-time signals that programs may use, as glibc numbers them: it keeps two for itself (signal(7)).
const (
	firstRealTime = 34
	lastRealTime  = 64
)

// nameOf is the name of a signal as an image's STOPSIGNAL has it: SIGTERM, SIGRTMIN+3.
func nameOf(signal syscall.Signal) string {
	switch name := unix.SignalName(signal); {
	case name != "":
		return name
	case signal == firstRealTime:
		return "SIGRTMIN"
	case signal > firstRealTime && signal <= lastRealTime:
		return fmt.Sprintf("SIGRTMIN+%d", signal-firstRealTime)
	}
	return strconv.Itoa(int(signal))
}

// signals are those of one pod that are owed.
type signals struct{ dir string }

func signalsOf(node capture.Node, podUID string) signals {
	return signals{dir: filepath.Join(node.Root, "run/checkpoint/signals", podUID)}
}

// note records a signal. The first stop signal of a container counts; KILL is kept beside it.
func (s signals) note(signal Signal) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	kind := stopNote
	if signal.IsKill() {
		kind = killNote
	}
	path := s.file(signal.ContainerID, kind)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return capture.WriteJSON(path, signal)
}

// The notes of a container: the first stop signal, a KILL, and that its preStop hook has begun.
const (
	stopNote = "stop"
	killNote = "kill"
	hookNote = "hook"
)

func (s signals) file(id, note string) string { return filepath.Join(s.dir, id+"."+note) }

// stop returns the stop signal that is owed to a container, and kill the KILL.
func (s signals) stop(id string) (Signal, bool) { return s.read(s.file(id, stopNote)) }
func (s signals) kill(id string) (Signal, bool) { return s.read(s.file(id, killNote)) }

// beginHook notes that the preStop hook of a container begins, and is false when it has before: it does not run twice when whoever ran it was killed.
func (s signals) beginHook(id string) bool {
	file, err := os.OpenFile(s.file(id, hookNote), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return err == nil && file.Close() == nil
}

func (s signals) read(path string) (Signal, bool) {
	var signal Signal
	data, err := os.ReadFile(path)
	return signal, err == nil && json.Unmarshal(data, &signal) == nil
}

// drop forgets what is owed to a container.
func (s signals) drop(id string) error {
	var all error
	for _, note := range []string{stopNote, killNote, hookNote} {
		if err := os.Remove(s.file(id, note)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	_ = os.Remove(s.dir) // if it is empty
	return all
}

// retain forgets what is owed to all containers but these: the others have ended.
func (s signals) retain(members []member) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		id := strings.TrimSuffix(entry.Name(), filepath.Ext(entry.Name()))
		if !slices.ContainsFunc(members, func(m member) bool { return m.ID == id }) {
			_ = s.drop(id) // a later one tries again
		}
	}
	_ = os.Remove(s.dir) // if it is empty
}

// pay delivers what is owed to a container: KILL if it came, else the stop signal. A container that has ended has nothing to get.
func (e *Engine) pay(ctx context.Context, c *Container) error {
	owed := signalsOf(e.Node, c.Pod.UID)
	signal, due := owed.kill(c.ID)
	if !due {
		signal, due = owed.stop(c.ID)
	}
	if _, alive := c.pid(); due && alive {
		if err := c.OCI().Kill(ctx, c.ID, signal.Name); err != nil {
			if _, alive := c.pid(); alive {
				return fmt.Errorf("deliver %s to container %q: %w", signal.Name, c.Name, err)
			}
		}
	}
	return owed.drop(c.ID)
}

// podLock is held by whoever captures a pod. The kernel lets go of it with its process.
type podLock struct{ file *os.File }

// LockFile is the file whose flock says that a capture of the pod is under way.
func LockFile(node capture.Node, podUID string) string {
	return filepath.Join(node.Captures(podUID), "lock")
}

// lockPod waits for the lock of a pod as long as that, and at least tries once.
func lockPod(node capture.Node, podUID string, patience time.Duration) (*podLock, error) {
	if err := os.MkdirAll(node.Captures(podUID), 0o700); err != nil {
		return nil, err
	}
	return lockFile(LockFile(node, podUID), patience)
}

// lockFile waits for the lock of a file as long as that, and at least tries once.
func lockFile(path string, patience time.Duration) (*podLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &podLock{file: file}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
	}
}

// release lets go of a lock; of none, or again, it does nothing.
func (l *podLock) release() {
	if l != nil {
		_ = l.file.Close()
	}
}

// InFlight tells whether somebody captures the pod at this moment.
func InFlight(node capture.Node, podUID string) bool {
	file, err := os.Open(LockFile(node, podUID))
	if err != nil {
		return false
	}
	defer file.Close()
	return errors.Is(unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
