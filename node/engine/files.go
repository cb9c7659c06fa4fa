package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// filesArchive is that of the n-th of a container's capture.Files.
func filesArchive(container string, n int) string {
	return filepath.Join("containers", container, fmt.Sprintf("files-%d.tar", n))
}

// further is a folder in a volume of a container, of which something is captured that is not captured anyway.
type further struct {
	capture.Files
	folder *os.File // as the container sees it
	mount  uint64   // the mount that it lies in
}

// furtherOf finds what a container's settings ask for, with the container's own rights: no link leads out of its root, and what it may not read is not
// read for it. What cannot be captured is logged and left out. Whoever calls it closes the folders.
func (e *Engine) furtherOf(m member) (found []further, rights *capture.Security, err error) {
	asked := m.Settings.OfContainers[m.Name].Files
	if len(asked) == 0 {
		return nil, nil, nil
	}
	spec, _, err := Bundle{m.Bundle}.Spec()
	if err != nil {
		return nil, nil, err
	}
	if rights, err = securityOf(spec); err != nil {
		return nil, nil, err
	}
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", m.pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	lines, err := mountLinesIn(fmt.Sprintf("/proc/%d/mountinfo", m.pid))
	if err != nil {
		return nil, nil, err
	}
	err = as(rights, func() error {
		for _, path := range asked {
			one, why := m.further(int(root.Fd()), path, spec, lines)
			if why != nil {
				e.Log("container %q: files has %q, which is left out: %v", m.Name, path, why)
				continue
			}
			found = append(found, one)
		}
		return nil
	})
	return mergeFurther(found), rights, err
}

// further looks for one path in a container.
func (m member) further(root int, path string, spec *specs.Spec, lines []mountLine) (further, error) {
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return further{}, err
	}
	file := os.NewFile(uintptr(fd), path)
	var stat unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_MNT_ID, &stat)
	resolved, linkErr := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) // without links
	point := pointOf(fmt.Sprint(stat.Mnt_id), lines)
	if err == nil {
		err = errors.Join(linkErr, m.mayKeep(point, spec))
	}
	if err == nil && slices.Contains(strings.Split(resolved, "/"), capture.KeptFolder) {
		err = errors.New("it is where states are kept")
	}
	kind := stat.Mode & unix.S_IFMT
	switch {
	case err != nil:
		return further{}, errors.Join(err, file.Close())
	case kind == unix.S_IFDIR:
		return further{capture.Files{Folder: resolved}, file, stat.Mnt_id}, nil
	}
	defer file.Close()
	if kind != unix.S_IFREG && kind != unix.S_IFIFO {
		return further{}, errors.New("it is a device or a socket")
	}
	if resolved == point {
		return further{}, errors.New("the file itself is mounted, and cannot be replaced")
	}
	content, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		err = content.Close()
	}
	if err != nil {
		return further{}, fmt.Errorf("it cannot be read: %w", err)
	}
	folder, err := openBelow(root, strings.TrimPrefix(filepath.Dir(resolved), "/"), unix.O_PATH)
	return further{capture.Files{Folder: filepath.Dir(resolved), Names: []string{filepath.Base(resolved)}}, folder, stat.Mnt_id}, err
}

// openBelow opens a folder below another, by no link.
func openBelow(root int, path string, flags uint64) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   flags | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(root, cmp.Or(path, "."), how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// pointOf returns where the mount of that number is mounted; nothing if another one was there first, which the program has covered.
func pointOf(id string, lines []mountLine) string {
	for _, line := range lines {
		if line.id != id {
			continue
		}
		if first := slices.IndexFunc(lines, func(other mountLine) bool { return other.point == line.point }); lines[first].id == id {
			return line.point
		}
	}
	return ""
}

// mayKeep returns an error for what is mounted at point when that is no volume whose content would be left out, or when it could not be brought back.
func (m member) mayKeep(point string, spec *specs.Spec) error {
	i := slices.IndexFunc(spec.Mounts, func(mount specs.Mount) bool { return filepath.Clean(mount.Destination) == point })
	if i < 0 || !isBind(spec.Mounts[i]) {
		return errors.New("it lies in no volume: what is on the root file system, or mounted by the program, is captured anyway")
	}
	return m.mayBringBack(spec.Mounts[i])
}

// mayBringBack returns an error for a volume of which files are not brought back.
func (c *Container) mayBringBack(mount specs.Mount) error {
	switch {
	case c.isEmptyDir(mount.Source), mount.Source == c.Shm:
		return errors.New("what is in emptyDirs and /dev/shm is captured anyway")
	case c.Own[filepath.Clean(mount.Destination)] != "":
		return errors.New("each pod has it of its own")
	case slices.Contains(restrictions(mount.Options), "ro"):
		return fmt.Errorf("%s is mounted read-only", mount.Destination)
	case len(mount.UIDMappings) > 0:
		return fmt.Errorf("%s is mounted with other users", mount.Destination)
	}
	return nil
}

// isEmptyDir tells whether a path on the node lies in an emptyDir of the container's pod, or is where kubelet mounts a part of one.
func (c *Container) isEmptyDir(path string) bool {
	for name, dir := range c.Volumes {
		parts := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(dir))), "volume-subpaths", name)
		if path == dir || strings.HasPrefix(path, dir+"/") || strings.HasPrefix(path, parts+"/") {
			return true
		}
	}
	return false
}

func isBind(mount specs.Mount) bool {
	return mount.Type == "bind" || slices.Contains(mount.Options, "rbind") || slices.Contains(mount.Options, "bind")
}

// mergeFurther leaves each file to one of them: what lies in a folder that is captured as a whole goes along with it, and single files of one folder together.
func mergeFurther(all []further) []further {
	slices.SortStableFunc(all, func(x, y further) int {
		return cmp.Or(cmp.Compare(x.Folder, y.Folder), cmp.Compare(len(x.Names), len(y.Names)))
	})
	var merged []further
	for _, one := range all {
		within := slices.ContainsFunc(merged, func(other further) bool {
			return len(other.Names) == 0 && other.mount == one.mount && (one.Folder == other.Folder || strings.HasPrefix(one.Folder, other.Folder+"/"))
		})
		last := len(merged) - 1
		switch {
		case within:
		case last >= 0 && merged[last].Folder == one.Folder:
			if !slices.Contains(merged[last].Names, one.Names[0]) {
				merged[last].Names = append(merged[last].Names, one.Names[0])
			}
		default:
			merged = append(merged, one)
			continue
		}
		_ = one.folder.Close()
	}
	return merged
}

// part has a walk of the folder tell of what is captured: of the names, if there are some, and of nothing that is mounted further below. Sockets and
// devices are left out.
func (f *further) part(tell visit) visit {
	return func(folder int, name, path string, stat *unix.Stat_t) error {
		first, _, _ := strings.Cut(path, "/")
		kind := stat.Mode & unix.S_IFMT
		switch {
		case len(f.Names) > 0 && path == ".":
			return nil
		case len(f.Names) > 0 && !slices.Contains(f.Names, first), len(f.Names) == 0 && isKept(path), kind == unix.S_IFCHR, kind == unix.S_IFBLK:
			return fs.SkipDir
		}
		var more unix.Statx_t
		if err := unix.Statx(folder, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &more); err != nil {
			return err
		}
		if more.Mnt_id != f.mount {
			return fs.SkipDir
		}
		return tell(folder, name, path, stat)
	}
}

// root is the path by which the folder can be opened to be read.
func (f *further) root() string { return fmt.Sprintf("/proc/self/fd/%d", f.folder.Fd()) }

// furtherSize returns about what the archives of a container's further files take.
func (e *Engine) furtherSize(m member) (sum int64, err error) {
	silent := &Engine{Node: e.Node, Log: func(string, ...any) {}} // the copy says what is left out
	all, rights, err := silent.furtherOf(m)
	for _, one := range all {
		_ = as(rights, func() error { // what cannot be read is not captured
			size, err := partSize(one.root(), one.part)
			sum += size
			return err
		})
		err = errors.Join(err, one.folder.Close())
	}
	return sum, err
}

// copyFurther writes the archives of a container's further files, and says in the record which they are. What the container itself may not read is logged
// and left out; the folder that it lies in is left out with it, as it would not be the same.
func (a *attempt) copyFurther(ctx context.Context, m member) error {
	all, rights, err := a.engine.furtherOf(m)
	defer func() {
		for _, one := range all {
			_ = one.folder.Close()
		}
	}()
	i := slices.IndexFunc(a.record.Containers, func(c capture.Container) bool { return c.Name == m.Name })
	if err != nil || i < 0 {
		return err
	}
	a.record.Containers[i].Files = nil
	for _, one := range all {
		kept := a.record.Containers[i].Files
		file, err := createArchive(filepath.Join(a.dir, filesArchive(m.Name, len(kept))))
		if err != nil {
			return err
		}
		err = as(rights, func() error { return writePart(ctx, file, one.root(), "", one.part) })
		err = errors.Join(err, file.Close())
		if errors.Is(err, fs.ErrPermission) {
			a.engine.Log("container %q: files of %s are left out: %v", m.Name, one.Folder, err)
			if err := os.Remove(file.Name()); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("files of container %q in %s: %w", m.Name, one.Folder, err)
		}
		kept = append(kept, one.Files)
		a.record.Containers[i].Files = kept
	}
	return nil
}
