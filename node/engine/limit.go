package engine

import (
	"encoding/json"
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

// limit is a file of a control group that holds its processes back, and the word that it had.
type limit struct {
	File  string `json:"file"`
	Value string `json:"value"`
}

// limits returns what would hold up a dump or a restore, or end it, which work inside the group: its share of processor time, the marks from which
// on its memory is reclaimed or a process of it killed, and the number of its processes. What is not set is left out. The order is that in which
// they can be lifted: on version 1 memory with swap bounds memory.
func (g cgroup) limits() []limit {
	files := []string{
		filepath.Join(g.unified, "cpu.max"), filepath.Join(g.unified, "memory.high"), filepath.Join(g.unified, "memory.max"), filepath.Join(g.unified, "pids.max"),
	}
	if g.unified == "" {
		files = nil
		for _, f := range [][2]string{
			{"cpu", "cpu.cfs_quota_us"}, {"memory", "memory.memsw.limit_in_bytes"}, {"memory", "memory.limit_in_bytes"}, {"pids", "pids.max"},
		} {
			if dir, there := g.v1[f[0]]; there {
				files = append(files, filepath.Join(dir, f[1]))
			}
		}
	}
	var set []limit
	for _, file := range files {
		data, err := os.ReadFile(file)
		if value := strings.TrimSpace(string(data)); err == nil && !isUnlimited(value) {
			set = append(set, limit{File: file, Value: value})
		}
	}
	return set
}

// unlimitedFrom is a number of bytes that nobody has: version 1 shows an unset limit as the largest number of pages.
const unlimitedFrom = 1 << 60

// isUnlimited tells whether a limit's word is none: max, -1, or a number beyond any machine.
func isUnlimited(value string) bool {
	if strings.HasPrefix(value, "max") || value == "-1" {
		return true
	}
	number, err := strconv.ParseUint(value, 10, 64)
	return err == nil && number >= unlimitedFrom
}

// lift lifts limits.
func lift(limits []limit) error {
	var all error
	for _, l := range limits {
		none := "max"
		if name := filepath.Base(l.File); strings.HasSuffix(name, "cfs_quota_us") || strings.HasSuffix(name, "limit_in_bytes") {
			none = "-1"
		}
		all = errors.Join(all, os.WriteFile(l.File, []byte(none), 0o644))
	}
	return all
}

// putBack sets limits again, the last one that was lifted first. One that somebody has set meanwhile stays as it is; that a group is gone is no error.
// Memory in use above its limit is reclaimed by the kernel, which on version 1 may take more than one call.
func putBack(limits []limit) error {
	var all error
	for _, l := range slices.Backward(limits) {
		all = errors.Join(all, l.putBack())
	}
	return all
}

func (l limit) putBack() error {
	data, err := os.ReadFile(l.File)
	if err == nil && !isUnlimited(strings.TrimSpace(string(data))) {
		return nil
	}
	for try := 0; err == nil; try++ {
		err = os.WriteFile(l.File, []byte(l.Value), 0o644)
		if !errors.Is(err, unix.EBUSY) || try == 10 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// liftedFile holds what to put back while limits of a pod are lifted for a restore.
func liftedFile(node capture.Node, podUID string) string {
	return filepath.Join(node.Restores(podUID), capture.LiftedFile)
}

// liftPod lifts the limits of the group that holds the containers of a pod for the time of a restore, and returns what puts them back. Whoever has
// the lock of the pod's restores may call it.
func (e *Engine) liftPod(podUID string) (putBack func(), err error) {
	group, err := groupOfPod(e.Node, podUID)
	if err != nil {
		return nil, err
	}
	limits := group.limits()
	if len(limits) == 0 {
		return func() {}, nil
	}
	if err := capture.NoteJSON(liftedFile(e.Node, podUID), limits); err != nil { // a power cut takes the groups, too
		return nil, err
	}
	putBack = func() {
		if err := e.putBackPod(podUID); err != nil {
			e.Log("limits: %v", err)
		}
	}
	return putBack, lift(limits)
}

// putBackPod puts back what was lifted for a restore of a pod, also by somebody who was killed.
func (e *Engine) putBackPod(podUID string) error {
	file := liftedFile(e.Node, podUID)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var limits []limit
	if err == nil && len(data) > 0 {
		err = json.Unmarshal(data, &limits)
	}
	if err == nil {
		err = putBack(limits)
	}
	if err != nil {
		return fmt.Errorf("put the limits of pod %s back: %w", podUID, err)
	}
	return os.Remove(file)
}

// settleLifted puts back what a restore that was killed had lifted.
func (e *Engine) settleLifted(podUID string) error {
	if _, err := os.Stat(liftedFile(e.Node, podUID)); err != nil {
		return nil
	}
	lock, err := lockRestore(e.Node, podUID, 0)
	if err != nil {
		return nil // it is not over
	}
	defer lock.release()
	return e.putBackPod(podUID)
}

// groupOfPod returns the control group that is above those of a pod's containers. It is found by the pod's sandbox.
func groupOfPod(node capture.Node, podUID string) (cgroup, error) {
	containers, err := containersOf(node, podUID)
	if err != nil {
		return cgroup{}, err
	}
	for _, c := range containers {
		if pid, alive := c.pid(); alive && c.IsSandbox() {
			group, err := cgroupOf(pid)
			return group.parent(), err
		}
	}
	return cgroup{}, fmt.Errorf("pod %s has no sandbox that runs", podUID)
}

// chargeTo has what this process writes charged to a pod: it moves into a group of its own below that of the pod. So files in memory, in /dev/shm and
// emptyDirs of the medium Memory, count for the pod's limit after a restore as they did before; what they take stays with the pod when the group goes.
// leave moves the process back.
func chargeTo(pod cgroup) (leave func() error, err error) {
	own, err := cgroupOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	parent, back := pod.unified, own.unified
	if parent == "" {
		parent, back = pod.v1["memory"], own.v1["memory"]
	}
	if parent == "" || back == "" {
		return nil, errors.New("the node has no control groups for memory")
	}
	group := filepath.Join(parent, "checkpoint-restore")
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	join := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644)
	}
	leave = func() error {
		err := join(back)
		_ = os.Remove(group) // it may hold another one, and goes with the pod
		return err
	}
	if err := join(group); err != nil {
		_ = os.Remove(group)
		return nil, err
	}
	return leave, nil
}
