package engine

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// CRIU mounts what a state says, as root of the node and before the container's root is all that it sees: a bind mount leads wherever its path and the
// links on it do. So each mount of a state has to be one that the new container would have as well (design 0020).

// nullDevice is what an OCI runtime mounts over files that are to be hidden, and the key by which CRIU is told of it.
const nullDevice = "/dev/null"

// mountCheck compares the mounts of a captured container with those of the new one.
type mountCheck struct {
	spec   *specs.Spec
	places map[string][]place
	// free says that the programs may mount by themselves.
	free bool
	// all are the mounts of one mount namespace.
	all []*mnt.MntEntry
	// node are those of this node.
	node []mountLine
}

// checkMounts returns a MismatchError unless the new container, whose root file system is that folder, has the mounts of the captured one. Mounts that
// only the new one has are no matter of rights.
func checkMounts(images, root string, spec *specs.Spec, node []mountLine) error {
	files, err := filepath.Glob(filepath.Join(images, "mountpoints-*.img"))
	if err != nil {
		return err
	}
	c := newMountCheck(root, spec, node)
	if len(files) > 1 && !c.free { // CRIU dumps no user namespace below the container's, so it takes the capability to make another
		return specMismatch("number of mount namespaces", fmt.Sprint(len(files)), "1")
	}
	for _, file := range files {
		if err := c.read(file); err != nil {
			return err
		}
		for _, m := range c.all {
			if err := c.check(m); err != nil {
				return err
			}
		}
		if err := c.checkGuarded(); err != nil {
			return err
		}
	}
	return nil
}

func newMountCheck(root string, spec *specs.Spec, node []mountLine) *mountCheck {
	return &mountCheck{spec: spec, places: placesOf(root, spec), free: mayMount(spec), node: node}
}

// read takes the mounts of an image.
func (c *mountCheck) read(image string) error {
	c.all = nil
	return editImage(image, func() *mnt.MntEntry { return &mnt.MntEntry{} }, func(m *mnt.MntEntry) edit {
		c.all = append(c.all, m)
		return leaveEntry
	})
}

// checkMounts compares the mounts and namespaces of the state with those of the new container.
func (r *restoration) checkMounts() error {
	if err := checkNamespaces(r.images(), r.spec); err != nil {
		return err
	}
	root, err := rootOf(r.bundle.Dir, r.spec)
	if err != nil {
		return err
	}
	node, err := mountLines()
	if err != nil {
		return err
	}
	return checkMounts(r.images(), root, r.spec, node)
}

// mayMount tells whether programs of a container can mount what they like.
func mayMount(spec *specs.Spec) bool {
	p := spec.Process
	return p != nil && p.Capabilities != nil && slices.Contains(p.Capabilities.Bounding, "CAP_SYS_ADMIN")
}

// isPlain tells whether a path can be followed without leaving what it begins at, as far as the path itself tells.
func isPlain(name string) bool {
	return path.IsAbs(name) && path.Clean(name) == name && !strings.ContainsRune(name, 0)
}

// check compares one mount.
func (c *mountCheck) check(m *mnt.MntEntry) error {
	switch {
	case !isPlain(m.GetMountpoint()) || m.GetWithPlugin() || m.GetExtMount(): // the latter was for what has a key now
		return c.refuse(m)
	case m.ExtKey != nil:
		return c.external(m)
	case !isPlain(m.GetRoot()):
		return c.refuse(m)
	case m.GetMountpoint() == "/":
		if c.spec.Root != nil && c.spec.Root.Readonly && !c.free && m.GetFlags()&unix.MS_RDONLY == 0 {
			return specMismatch(`mount "/"`, "writable", "read-only")
		}
		return nil
	case c.free:
		return c.own(m)
	}
	return c.anew(m)
}

// external compares a mount that an OCI runtime gives to CRIU: a bind mount, a hierarchy of control groups, a device, or what hides a file.
func (c *mountCheck) external(m *mnt.MntEntry) error {
	point, key := m.GetMountpoint(), m.GetExtKey()
	if key == nullDevice && c.mayHide(point) {
		return nil
	}
	if key != point || len(c.binds(point)) == 0 {
		return c.refuse(m)
	}
	return nil // with the flags that it has to have: see keepFlags
}

// anew compares a mount that CRIU makes from nothing but the state.
func (c *mountCheck) anew(m *mnt.MntEntry) error {
	if c.isGuard(m) || c.isConsole(m) || c.isBelow(m) {
		return nil
	}
	refused := c.refuse(m)
	for _, p := range c.placesAt(m.GetMountpoint()) {
		if !slices.Contains(p.kinds, mnt.Fstype(m.GetFstype())) || !c.isFresh(m) {
			continue
		}
		if p.flags&^flagsOf(m) == 0 {
			return nil
		}
		refused = specMismatch(fmt.Sprintf("mount %q", m.GetMountpoint()), flagWords(flagsOf(m)), flagWords(p.flags))
	}
	return refused
}

// own refuses what even a program that may mount by itself could not have mounted, as CRIU looks for it among the node's files: a disk, and the layers of
// an overlay, unless it is the container's root again.
func (c *mountCheck) own(m *mnt.MntEntry) error {
	switch mnt.Fstype(m.GetFstype()) {
	case mnt.Fstype_AUTO, mnt.Fstype_AUFS:
		return c.refuse(m)
	case mnt.Fstype_OVERLAYFS:
		if !slices.ContainsFunc(c.all, func(other *mnt.MntEntry) bool { return other.GetMountpoint() == "/" && isSameSystem(m, other) }) {
			return c.refuse(m)
		}
	}
	return nil
}

// isSameSystem tells whether CRIU takes two mounts for those of one file system.
func isSameSystem(m, other *mnt.MntEntry) bool {
	return m.GetRootDev() == other.GetRootDev() && m.GetFstype() == other.GetFstype() && m.GetSource() == other.GetSource() && m.GetOptions() == other.GetOptions()
}

// isFresh tells whether a mount shows a file system from its top that the container may see in the same way: CRIU takes it from another mount with the
// same device, where there is one.
func (c *mountCheck) isFresh(m *mnt.MntEntry) bool {
	if m.GetRoot() != "/" {
		return false
	}
	for _, other := range c.all {
		if other == m || !mayBeSource(m, other) || other.GetExtKey() == nullDevice {
			continue // that shows something else
		}
		isOfOneKind := other.ExtKey != nil || other.GetMountpoint() == "/" || other.GetFstype() == m.GetFstype()
		if !isOfOneKind || (other.GetFlags()|c.askedOutside(other))&restricting&^flagsOf(m) != 0 {
			return false
		}
	}
	return true
}

// mayHide tells whether a path is one that OCI runtimes hide or protect; an earlier one may have done so with more than this one does.
func (c *mountCheck) mayHide(point string) bool {
	if slices.Contains(guarded(c.spec), point) {
		return true
	}
	if !strings.HasPrefix(point, "/proc/") && !strings.HasPrefix(point, "/sys/") {
		return false
	}
	followed, err := filepath.EvalSymlinks(point)
	return err == nil && followed == point // a process's own root is a link there
}

// isGuard tells whether a mount hides something below /proc or /sys, or shows the same again, read-only.
func (c *mountCheck) isGuard(m *mnt.MntEntry) bool {
	point := m.GetMountpoint()
	if !c.mayHide(point) {
		return false
	}
	switch mnt.Fstype(m.GetFstype()) {
	case mnt.Fstype_TMPFS:
		return flagsOf(m)&unix.MS_RDONLY != 0 && c.isFresh(m)
	case mnt.Fstype_PROC, mnt.Fstype_SYSFS:
		if m.GetFlags()&unix.MS_RDONLY == 0 || c.spec.Linux != nil && slices.Contains(c.spec.Linux.MaskedPaths, point) {
			return false
		}
		over := c.above(m)
		if over == nil || over.ExtKey != nil || over.GetFstype() != m.GetFstype() || over.GetRootDev() != m.GetRootDev() {
			return false
		}
		return m.GetRoot() == path.Join(over.GetRoot(), strings.TrimPrefix(point, over.GetMountpoint())) && c.isOfItsKind(m)
	}
	return false
}

// above returns the mount that the place of another lies in.
func (c *mountCheck) above(m *mnt.MntEntry) (found *mnt.MntEntry) {
	for _, other := range c.all {
		if isAncestor(other.GetMountpoint(), m.GetMountpoint()) && (found == nil || len(found.GetMountpoint()) < len(other.GetMountpoint())) {
			found = other
		}
	}
	return found
}

// isAncestor tells whether one path lies below another.
func isAncestor(folder, name string) bool {
	return name != folder && strings.HasPrefix(name, strings.TrimSuffix(folder, "/")+"/")
}

// isConsole tells whether a mount is a terminal that the container has as its console.
func (c *mountCheck) isConsole(m *mnt.MntEntry) bool {
	number, is := strings.CutPrefix(m.GetRoot(), "/")
	_, err := strconv.ParseUint(number, 10, 31)
	return is && err == nil && m.GetMountpoint() == "/dev/console" && mnt.Fstype(m.GetFstype()) == mnt.Fstype_DEVPTS && c.isOfItsKind(m)
}

// volumeOf returns the bind mount that another mount lies below, if the new container has that with all that is mounted below it on the node.
func (c *mountCheck) volumeOf(m *mnt.MntEntry) (volume *mnt.MntEntry, is place) {
	for _, other := range c.all {
		at := other.GetMountpoint()
		if other.ExtKey != nil && isAncestor(at, m.GetMountpoint()) && (volume == nil || isAncestor(volume.GetMountpoint(), at)) {
			volume = other
		}
	}
	for _, p := range c.places[volume.GetMountpoint()] {
		if p.deep {
			return volume, p
		}
	}
	return nil, place{}
}

// isBelow tells whether a mount lies in a folder of the node that the new container has with all that is mounted below it: a file system in memory of
// its own, a part of that folder, or what is mounted there on this node.
func (c *mountCheck) isBelow(m *mnt.MntEntry) bool {
	volume, is := c.volumeOf(m)
	kind := mnt.Fstype(m.GetFstype())
	switch {
	case volume == nil:
		return false
	case m.GetRootDev() == volume.GetRootDev():
		return c.isPart(m, volume, is)
	case !c.isFresh(m) || kind == mnt.Fstype_OVERLAYFS: // whose options are paths of the node
		return false
	}
	return kind == mnt.Fstype_TMPFS || c.isOnNode(m, volume, is, func(line mountLine) bool { return line.kind == strings.ToLower(kind.String()) })
}

// isPart tells whether a mount shows a part of the volume that it lies below, by no link. CRIU may take it from any mount of the same file system, so all
// of them have to show the same there.
func (c *mountCheck) isPart(m, volume *mnt.MntEntry, of place) bool {
	shown := partOf(m, volume, of)
	for _, other := range c.all {
		if shown == nil {
			return false
		}
		if other == m || !mayBeSource(m, other) {
			continue
		}
		switch from, is := c.volumeOf(other); {
		case other.ExtKey != nil:
			if bound := c.binds(other.GetMountpoint()); len(bound) == 0 || !os.SameFile(shown, partOf(m, other, bound[0])) {
				return false
			}
		case from == nil || from.GetRootDev() != m.GetRootDev() || partOf(other, from, is) == nil:
			return false
		}
	}
	return shown != nil
}

// partOf returns the file of the node that a mount shows when it is taken from a volume; nil when there is none, or only by a link.
func partOf(m, volume *mnt.MntEntry, of place) os.FileInfo {
	part, below := partIn(m, volume)
	inside := filepath.Join(of.source, part)
	followed, err := filepath.EvalSymlinks(inside)
	if !below || of.source == "" || err != nil || followed != inside || m.GetFstype() != volume.GetFstype() {
		return nil
	}
	info, err := os.Lstat(inside)
	if err != nil {
		return nil
	}
	return info
}

// partIn returns which part of a volume a mount shows.
func partIn(m, volume *mnt.MntEntry) (part string, below bool) {
	return strings.CutPrefix(m.GetRoot()+"/", strings.TrimSuffix(volume.GetRoot(), "/")+"/")
}

// mayBeSource tells whether CRIU may take a mount from another one, by what a state says of both.
func mayBeSource(m, other *mnt.MntEntry) bool {
	root := other.GetRoot()
	return m.GetRootDev() == other.GetRootDev() && (!isPlain(root) || root == m.GetRoot() || isAncestor(root, m.GetRoot()))
}

// isOfItsKind tells whether CRIU takes a mount from none but those of the same kind, which it makes anew.
func (c *mountCheck) isOfItsKind(m *mnt.MntEntry) bool {
	return !slices.ContainsFunc(c.all, func(other *mnt.MntEntry) bool {
		return mayBeSource(m, other) && (other.ExtKey != nil || other.GetMountpoint() == "/" || other.GetFstype() != m.GetFstype())
	})
}

// isOnNode tells whether this node has a mount as it has to be at a place in the source of a volume.
func (c *mountCheck) isOnNode(m, volume *mnt.MntEntry, of place, is func(mountLine) bool) bool {
	point := filepath.Join(of.source, strings.TrimPrefix(m.GetMountpoint(), volume.GetMountpoint()))
	return slices.ContainsFunc(c.node, func(line mountLine) bool { return line.point == point && is(line) })
}

// checkGuarded refuses mounts that would lie over those that hide something.
func (c *mountCheck) checkGuarded() error {
	if c.free {
		return nil
	}
	mounts, points := map[uint32]*mnt.MntEntry{}, map[string]bool{}
	paths := guarded(c.spec)
	for _, m := range c.all {
		point := m.GetMountpoint()
		holds := point == "/" || slices.ContainsFunc(paths, func(path string) bool { return isAncestor(point, path) })
		if mounts[m.GetMntId()] != nil || holds && points[point] {
			return c.refuse(m)
		}
		mounts[m.GetMntId()], points[point] = m, true
	}
	for _, m := range c.all {
		if !slices.Contains(paths, m.GetMountpoint()) {
			continue
		}
		for _, other := range c.all {
			between := isAncestor(other.GetMountpoint(), m.GetMountpoint()) && !slices.Contains(paths, other.GetMountpoint())
			if parent := mounts[m.GetParentMntId()]; parent == nil || between && len(parent.GetMountpoint()) < len(other.GetMountpoint()) {
				return c.refuse(m)
			}
		}
	}
	return nil
}

// refuse says what a mount is, and what the new container has in its place.
func (c *mountCheck) refuse(m *mnt.MntEntry) error {
	had := fmt.Sprintf("%s from %q", strings.ToLower(mnt.Fstype(m.GetFstype()).String()), m.GetRoot())
	if m.ExtKey != nil {
		had = fmt.Sprintf("a bind mount of %q", m.GetExtKey())
	}
	var has []string
	for _, p := range c.placesAt(m.GetMountpoint()) {
		if p.kinds == nil {
			has = append(has, "a bind mount of its own")
		}
		for _, kind := range p.kinds {
			has = append(has, strings.ToLower(kind.String()))
		}
	}
	return specMismatch(fmt.Sprintf("mount %q", m.GetMountpoint()), had, orNone(strings.Join(has, " or ")))
}
