package engine

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountLine is a line of mountinfo (proc_pid_mountinfo(5)), as far as it is of use here.
type mountLine struct {
	device, root, point, options, kind, superOptions, id string
}

// mountLines returns the mounts of this process, the oldest first.
func mountLines() ([]mountLine, error) { return mountLinesIn("/proc/self/mountinfo") }

func mountLinesIn(path string) ([]mountLine, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []mountLine
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// 36 35 98:0 /root /point rw,noatime shared:1 - overlay source lowerdir=…,upperdir=…
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, behind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 6 || len(behind) < 3 {
			continue
		}
		all = append(all, mountLine{fields[2], unescape(fields[3]), unescape(fields[4]), fields[5], behind[0], unescape(behind[2]), fields[0]})
	}
	return all, lines.Err()
}

// subPath is a part of a volume that kubelet has mounted at a place of its own, for a container that mounts nothing else of it.
type subPath struct {
	point string // where it is mounted
	path  string // of what is mounted there, below the volume
}

// subPathsOf returns those of an emptyDir: …/pods/UID/volumes/kubernetes.io~empty-dir/NAME has them in …/pods/UID/volume-subpaths/NAME.
func subPathsOf(volume string) ([]subPath, error) {
	pod := filepath.Dir(filepath.Dir(filepath.Dir(volume)))
	prefix := filepath.Join(pod, "volume-subpaths", filepath.Base(volume)) + "/"
	all, err := mountLines()
	if err != nil {
		return nil, err
	}
	var holder mountLine // the mount that the volume lies in
	for _, m := range all {
		if (m.point == "/" || volume == m.point || strings.HasPrefix(volume, m.point+"/")) && len(m.point) >= len(holder.point) {
			holder = m
		}
	}
	inside, err := filepath.Rel(holder.point, volume)
	if err != nil {
		return nil, err
	}
	root := filepath.Join(holder.root, inside)
	var found []subPath
	for _, m := range all {
		if !strings.HasPrefix(m.point, prefix) {
			continue
		}
		path, below := strings.CutPrefix(strings.TrimSuffix(m.root, "//deleted"), strings.TrimSuffix(root, "/")+"/")
		if !below || m.device != holder.device {
			return nil, fmt.Errorf("what is mounted at %s is not below %s", m.point, volume)
		}
		if first, rest, _ := strings.Cut(path, "/"); slices.Contains(ownFolders, first) { // a swap was cut off
			path = rest
		}
		found = append(found, subPath{m.point, path})
	}
	return found, nil
}

// mount mounts what a volume has at that path now.
func (s subPath) mount(volume string) error {
	fd, err := unix.Open(volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer os.NewFile(uintptr(fd), volume).Close()
	for word := range strings.SplitSeq(s.path, "/") {
		if fd, err = unix.Openat(fd, word, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("subPath %q: %w", s.path, err)
		}
		defer os.NewFile(uintptr(fd), word).Close()
	}
	if err := unix.Unmount(s.point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", s.point, err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), s.point, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount subPath %q: %w", s.path, err)
	}
	return nil
}

func mountSubPaths(volume string, all []subPath) error {
	var failed error
	for _, s := range all {
		failed = errors.Join(failed, s.mount(volume))
	}
	return failed
}

// makeRoom enlarges a file system in memory for as long as it holds both what it had and what an archive brings. It returns a function that gives
// it its size back.
func makeRoom(dir string, need int64) (func() error, error) {
	none := func() error { return nil }
	var system unix.Statfs_t
	if err := unix.Statfs(dir, &system); err != nil || system.Type != unix.TMPFS_MAGIC || int64(system.Bavail)*system.Bsize >= need {
		return none, err
	}
	all, err := mountLines()
	if err != nil {
		return none, err
	}
	i := slices.IndexFunc(all, func(m mountLine) bool { return m.point == dir && m.kind == "tmpfs" })
	if i < 0 {
		return none, nil
	}
	resize := func(size int64) error {
		flags := mountFlags(all[i].options) | unix.MS_REMOUNT
		if err := unix.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%d", size)); err != nil {
			return fmt.Errorf("give %s a size of %d bytes: %w", dir, size, err)
		}
		return nil
	}
	size := int64(system.Blocks) * system.Bsize
	return func() error { return resize(size) }, resize(size + need)
}
