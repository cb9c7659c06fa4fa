package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Hierarchy is one mounted cgroup hierarchy.
type Hierarchy struct {
	MountPoint string
	// V2 tells the unified hierarchy from the many of version 1.
	V2 bool
	// Options are what a version 1 hierarchy is mounted with again: its controllers or name=….
	Options string
}

// Hierarchies returns the cgroup hierarchies below /sys/fs/cgroup, as mounted in the namespace of the caller.
func Hierarchies() ([]Hierarchy, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var found []Hierarchy
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[1], "/sys/fs/cgroup") {
			continue
		}
		switch fields[2] {
		case "cgroup":
			found = append(found, Hierarchy{MountPoint: fields[1], Options: controllers(fields[3])})
		case "cgroup2":
			found = append(found, Hierarchy{MountPoint: fields[1], V2: true})
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted below /sys/fs/cgroup")
	}
	return found, nil
}

// controllers drops the general mount options, and the release agent, from those of a version 1 hierarchy.
func controllers(options string) string {
	var kept []string
	for option := range strings.SplitSeq(options, ",") {
		switch {
		case option == "rw", option == "ro", option == "relatime", strings.HasPrefix(option, "no") && !strings.HasPrefix(option, "name="),
			strings.HasPrefix(option, "release_agent="), option == "xattr", option == "clone_children":
		default:
			kept = append(kept, option)
		}
	}
	return strings.Join(kept, ",")
}

// JoinCgroup makes the cgroup in every hierarchy, with whatever controllers there are, and moves the calling process into it.
// The group must be a leaf when the process joins it.
func JoinCgroup(path string) error {
	hierarchies, err := Hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		if err := makeCgroup(h, path); err != nil {
			return err
		}
		procs := filepath.Join(h.MountPoint, path, "cgroup.procs")
		if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// makeCgroup makes the group and its parents, each usable: version 1's cpuset wants its members named, version 2's controllers
// are handed down from parent to child.
func makeCgroup(h Hierarchy, path string) error {
	dir := h.MountPoint
	for part := range strings.SplitSeq(path, "/") {
		if h.V2 {
			EnableControllers(dir)
		}
		parent := dir
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inherit(parent, dir, file); !h.V2 && err != nil {
				return err
			}
		}
	}
	return nil
}

// inherit copies a value from the parent where the group has none yet and the hierarchy has such a file.
func inherit(parent, dir, file string) error {
	have, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(have)) != "" {
		return nil
	}
	value, err := os.ReadFile(filepath.Join(parent, file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), value, 0)
}

// EnableControllers hands every controller that a version 2 group has down to its children, as far as the kernel lets it.
func EnableControllers(dir string) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return
	}
	for _, controller := range strings.Fields(string(data)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0) // one by one: some may be refused
	}
}

// KillCgroup ends every process in the cgroup and below it, and removes the groups. It returns how many processes it ended;
// a cgroup that is not there is no error.
func KillCgroup(path string, patience time.Duration) (killed int, err error) {
	hierarchies, err := Hierarchies()
	if err != nil {
		return 0, err
	}
	deadline := time.Now().Add(patience)
	seen := map[int]bool{}
	for {
		remaining := 0
		for _, h := range hierarchies {
			pids, left := sweep(filepath.Join(h.MountPoint, path))
			remaining += left
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
				seen[pid] = true
			}
		}
		if remaining == 0 {
			return len(seen), nil
		}
		if time.Now().After(deadline) {
			return len(seen), fmt.Errorf("cgroup %s still has %d groups after %s", path, remaining, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sweep removes the empty groups of a tree, deepest first, and returns the processes in the others and how many those are.
func sweep(dir string) (pids []int, left int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0
	}
	for _, entry := range entries {
		if entry.IsDir() {
			below, n := sweep(filepath.Join(dir, entry.Name()))
			pids, left = append(pids, below...), left+n
		}
	}
	thaw(dir)
	data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for _, line := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		left++
	}
	return pids, left
}

// thaw lets frozen processes run into their KILL; version 1 would keep them for ever.
func thaw(dir string) {
	if _, err := os.Stat(filepath.Join(dir, "freezer.state")); err == nil {
		_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
	}
}
