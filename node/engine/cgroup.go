package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupMount = "/sys/fs/cgroup"

// cgroup finds the folders of a process's control group, in both versions of the interface.
type cgroup struct {
	// unified is the folder in a pure version 2 hierarchy; else it is empty and the rest counts.
	unified string
	// v1 are the folders by controller, as cpu, memory and freezer.
	v1 map[string]string
}

// cgroupOf returns the control group of a process as /proc shows it.
func cgroupOf(pid int) (cgroup, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return cgroup{}, err
	}
	found := cgroup{v1: map[string]string{}}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[0] == "0" && isUnified() {
			return cgroup{unified: filepath.Join(cgroupMount, parts[2])}, nil
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			found.v1[controller] = filepath.Join(cgroupMount, controller, parts[2])
		}
	}
	return found, nil
}

// isRoot tells whether it is that of all processes of the node, where one that is about to end finds itself: nothing may be done to it.
func (g cgroup) isRoot() bool {
	return filepath.Clean(g.unified) == cgroupMount || g.unified == "" && filepath.Clean(g.v1["freezer"]) == filepath.Join(cgroupMount, "freezer")
}

func isUnified() bool {
	var stat unix.Statfs_t
	return unix.Statfs(cgroupMount, &stat) == nil && stat.Type == unix.CGROUP2_SUPER_MAGIC
}

// parent is the group above: for a container, that of its pod.
func (g cgroup) parent() cgroup {
	above := cgroup{v1: map[string]string{}}
	if g.unified != "" {
		above.unified = filepath.Dir(g.unified)
	}
	for controller, dir := range g.v1 {
		above.v1[controller] = filepath.Dir(dir)
	}
	return above
}

// frozen tells whether the group's processes are held by the freezer.
func (g cgroup) frozen() (bool, error) {
	if g.unified != "" {
		data, err := os.ReadFile(filepath.Join(g.unified, "cgroup.events"))
		return strings.Contains(string(data), "frozen 1"), err
	}
	data, err := os.ReadFile(filepath.Join(g.v1["freezer"], "freezer.state"))
	return strings.TrimSpace(string(data)) == "FROZEN", err
}

// processes returns all processes of the group and of those below.
func (g cgroup) processes() ([]int, error) {
	root := g.unified
	if root == "" {
		root = g.v1["freezer"]
	}
	var pids []int
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() {
			return nil
		}
		data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return err
		}
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) { // it went away
		return pids, nil
	}
	return pids, err
}

// strangers returns the processes of the group that do not descend from the container's first one: exec sessions and probes. Their
// memory is not in a dump.
func (g cgroup) strangers(initPID int) ([]int, error) {
	pids, err := g.processes()
	if err != nil {
		return nil, err
	}
	var strangers []int
	for _, pid := range pids {
		if !descends(pid, initPID) {
			strangers = append(strangers, pid)
		}
	}
	return strangers, nil
}

// kill sends KILL to all processes of the group. Frozen ones end when they are thawed, on version 2 at once.
func (g cgroup) kill() error {
	pids, err := g.processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if killErr := unix.Kill(pid, unix.SIGKILL); killErr != nil && !errors.Is(killErr, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, killErr))
		}
	}
	return err
}

// memory returns what a dump of the group's processes may take, in bytes: their anonymous and shared memory, also where it is swapped out.
func (g cgroup) memory() int64 {
	path, wanted := filepath.Join(g.v1["memory"], "memory.stat"), []string{"total_rss", "total_shmem", "total_swap"}
	if g.unified != "" {
		path, wanted = filepath.Join(g.unified, "memory.stat"), []string{"anon", "shmem"}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	sum := int64(0)
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, counted := range wanted {
			if bytes, err := strconv.ParseInt(value, 10, 64); name == counted && err == nil {
				sum += bytes
			}
		}
	}
	return sum
}

// EnterOwnCgroup moves this process out of the group of whoever started it, so that what it does and writes is charged to nobody's limit:
// neither to containerd, nor to the pod, which at the brim of its memory limit could not be written out.
func EnterOwnCgroup() error { return enterOwnCgroup(os.Getpid()) }

// LeaveOwnCgroup moves this process to the root of the control groups, where that is allowed.
func LeaveOwnCgroup() {
	roots := []string{cgroupMount}
	if !isUnified() {
		roots, _ = filepath.Glob(filepath.Join(cgroupMount, "*"))
	}
	for _, root := range roots {
		_ = os.WriteFile(filepath.Join(root, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644)
	}
}

func enterOwnCgroup(pid int) error {
	const name = "checkpoint-runtime"
	own := []string{filepath.Join(cgroupMount, name)}
	if !isUnified() {
		own = nil
		for _, controller := range []string{"cpu", "memory", "blkio", "pids", "freezer"} {
			if _, err := os.Stat(filepath.Join(cgroupMount, controller)); err == nil {
				own = append(own, filepath.Join(cgroupMount, controller, name))
			}
		}
	}
	var all error
	for _, dir := range own {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			all = errors.Join(all, err)
			continue
		}
		all = errors.Join(all, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644))
	}
	return all
}

// awaitFrozen waits until the freezer holds the group's processes.
func (g cgroup) awaitFrozen(patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		frozen, err := g.frozen()
		if err != nil || frozen {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the freezer does not hold all processes after %s", patience)
		}
	}
}

// freeze holds all processes of a group, and returns when it does.
func (g cgroup) freeze(patience time.Duration) error {
	file, word := filepath.Join(g.unified, "cgroup.freeze"), "1"
	if g.unified == "" {
		file, word = filepath.Join(g.v1["freezer"], "freezer.state"), "FROZEN"
	}
	if err := os.WriteFile(file, []byte(word), 0o644); err != nil {
		return err
	}
	return g.awaitFrozen(patience)
}

// thaw lets all processes of a group go on.
func (g cgroup) thaw() error {
	if g.unified == "" {
		return os.WriteFile(filepath.Join(g.v1["freezer"], "freezer.state"), []byte("THAWED"), 0o644)
	}
	return os.WriteFile(filepath.Join(g.unified, "cgroup.freeze"), []byte("0"), 0o644)
}
