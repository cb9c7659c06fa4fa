package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/transparent-checkpoint/operator/internal/compat"
)

// A container that was captured where control groups have the one version is restored where they have the other: what is mounted at its /sys/fs/cgroup
// becomes what the new node mounts there, and the files by which programs know their share of the processors, which Go's keep open, are replaced by
// copies of what such a file would say of the new container.

// groupMountOf returns which mount of a container shows its control groups; -1 when none does.
func groupMountOf(spec *specs.Spec) int {
	return slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })
}

// groupsHere is the version of this node's control groups.
func groupsHere() int {
	if isUnified() {
		return 2
	}
	return 1
}

// sharesOf are the files of the other version by which a program knows the share of the processors that it may use, by their names, with what they would
// say of a container.
func sharesOf(spec *specs.Spec, here int) map[string]string {
	quota, period := int64(-1), uint64(100_000)
	if spec.Linux != nil && spec.Linux.Resources != nil && spec.Linux.Resources.CPU != nil {
		if q := spec.Linux.Resources.CPU.Quota; q != nil && *q > 0 {
			quota = *q
		}
		if p := spec.Linux.Resources.CPU.Period; p != nil && *p > 0 {
			period = *p
		}
	}
	if here == 2 {
		return map[string]string{"cpu.cfs_quota_us": fmt.Sprintln(quota), "cpu.cfs_period_us": fmt.Sprintln(period)}
	}
	limit := "max"
	if quota > 0 {
		limit = strconv.FormatInt(quota, 10)
	}
	return map[string]string{"cpu.max": fmt.Sprintln(limit, period)}
}

// standIns are the files that the captured processes have open of control groups of the other version, by their paths in the container, with what the
// new ones have to read there. What else they have open there is left over.
func standIns(images string, spec *specs.Spec, here int) (found map[string]string, left []string, err error) {
	at := groupMountOf(spec)
	if at < 0 {
		return nil, nil, nil
	}
	below, shares := path.Clean(spec.Mounts[at].Destination)+"/", sharesOf(spec, here)
	found = map[string]string{}
	err = editImage(filepath.Join(images, "files.img"), func() *fdinfo.FileEntry { return &fdinfo.FileEntry{} }, func(file *fdinfo.FileEntry) edit {
		name := file.GetReg().GetName()
		if !strings.HasPrefix(name+"/", below) {
			return leaveEntry
		}
		if content, is := shares[path.Base(name)]; is {
			found[name] = content
		} else {
			left = append(left, name)
		}
		return leaveEntry
	})
	return found, left, err
}

// capturedGroups is the version of what a captured container saw as its control groups; 0 when it saw none.
func capturedGroups(images, point string) (version int, err error) {
	err = editMounts(images, func(m *mnt.MntEntry) edit {
		if m.GetMountpoint() == point {
			version = 1
			if m.GetFstype() == uint32(mnt.Fstype_CGROUP2) {
				version = 2
			}
		}
		return leaveEntry
	})
	return version, err
}

// checkGroups returns a Mismatch when the processes need the version of control groups that they were captured with.
func (r *restoration) checkGroups() error {
	at, here := groupMountOf(r.spec), groupsHere()
	if at < 0 {
		return nil
	}
	captured, err := capturedGroups(r.images(), path.Clean(r.spec.Mounts[at].Destination))
	if err != nil || captured == 0 || captured == here {
		return err
	}
	_, left, err := standIns(r.images(), r.spec, here)
	if err == nil && len(left) > 0 {
		err = &compat.Mismatch{
			Field: "version of the control groups", Has: strconv.Itoa(here), Wants: fmt.Sprintf("%d, as it has %s open", captured, left[0]),
		}
	}
	return err
}

// groupChange is how a container's mount of control groups of the one version becomes that of the other.
type groupChange struct {
	images, point string
	// flags are those of the mounts.
	flags uint32
	// folders are where the hierarchies of version 1 are mounted; none for version 2.
	folders []string
	// lastMount is the highest number of a mount, and lastDevice that of the device of one that lies on no disk.
	lastMount, lastDevice uint32
}

// adaptGroupMounts changes what is mounted as control groups of the other version into what this node has there.
func adaptGroupMounts(images string, spec *specs.Spec) error {
	at, here := groupMountOf(spec), groupsHere()
	if at < 0 {
		return nil
	}
	whole := spec.Mounts[at]
	whole.Destination = path.Clean(whole.Destination)
	captured, err := capturedGroups(images, whole.Destination)
	if err != nil || captured == 0 || captured == here {
		return err
	}
	c := groupChange{images: images, point: whole.Destination, flags: uint32(mountFlags(strings.Join(whole.Options, ",")))}
	if here == 1 {
		mounts, err := groupMounts(whole, "/")
		if err != nil {
			return err
		}
		for _, m := range mounts[1:] {
			c.folders = append(c.folders, m.Destination)
		}
	}
	return c.apply()
}

func (c *groupChange) apply() error {
	err := editMounts(c.images, func(m *mnt.MntEntry) edit {
		c.lastMount = max(c.lastMount, m.GetMntId())
		if device := m.GetRootDev(); device < firstDisk {
			c.lastDevice = max(c.lastDevice, device)
		}
		return leaveEntry
	})
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(c.images, "mountpoints-*.img"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := rewriteImage(file, maxFilesSize, c.rewrite); err != nil {
			return err
		}
	}
	return nil
}

// rewrite returns an image of mounts with the change made.
func (c *groupChange) rewrite(image []byte) ([]byte, error) {
	var more []byte
	changed, err := mapEntries(image, func(entry []byte) ([]byte, error) {
		m := &mnt.MntEntry{}
		if err := proto.Unmarshal(entry, m); err != nil {
			return nil, err
		}
		switch {
		case strings.HasPrefix(m.GetMountpoint(), c.point+"/"):
			return nil, errDropped
		case m.GetMountpoint() != c.point:
			return entry, nil
		case len(c.folders) == 0:
			c.become(m, mnt.Fstype_CGROUP2, c.flags, "cgroup", "")
			return proto.Marshal(m)
		}
		c.become(m, mnt.Fstype_TMPFS, c.flags&^unix.MS_RDONLY, "tmpfs", "mode=755")
		if err := writeFolders(filepath.Join(c.images, fmt.Sprintf("tmpfs-%d.tar.gz.img", m.GetMntId())), c.folders); err != nil {
			return nil, err
		}
		for _, folder := range c.folders {
			below, err := proto.Marshal(c.hierarchy(m, folder))
			if err != nil {
				return nil, err
			}
			more = append(binary.LittleEndian.AppendUint32(more, uint32(len(below))), below...)
		}
		return proto.Marshal(m)
	})
	return append(changed, more...), err
}

// propagation are the flags of a mount that say whom its mounts are shared with.
const propagation = unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_UNBINDABLE

// become changes what is mounted.
func (c *groupChange) become(m *mnt.MntEntry, kind mnt.Fstype, flags uint32, source, options string) {
	m.Fstype, m.Source, m.Options, m.Root = proto.Uint32(uint32(kind)), &source, &options, proto.String("/")
	m.Flags, m.SbFlags, m.ExtKey, m.ExtMount = proto.Uint32(flags|m.GetFlags()&propagation), proto.Uint32(0), nil, nil
	m.RootDev = proto.Uint32(c.newDevice())
}

// hierarchy is the mount of one of version 1, which the runtime names to CRIU by where it is mounted.
func (c *groupChange) hierarchy(above *mnt.MntEntry, point string) *mnt.MntEntry {
	c.lastMount++
	id, device := c.lastMount, c.newDevice()
	return &mnt.MntEntry{
		Fstype: proto.Uint32(uint32(mnt.Fstype_CGROUP)), MntId: &id, RootDev: &device, ParentMntId: above.MntId,
		Flags: proto.Uint32(c.flags | above.GetFlags()&propagation), SbFlags: proto.Uint32(0),
		Root: proto.String("/"), Mountpoint: &point, Source: proto.String("cgroup"), Options: proto.String(""), ExtKey: &point,
	}
}

// firstDisk is the lowest number that the kernel gives to devices with a driver, of which CRIU has to be told (the major number, 20 bits up).
const firstDisk = 1 << 20

func (c *groupChange) newDevice() uint32 {
	c.lastDevice++
	return c.lastDevice
}

// editMounts looks at all mounts of a captured container, and changes them.
func editMounts(images string, decide func(*mnt.MntEntry) edit) error {
	files, err := filepath.Glob(filepath.Join(images, "mountpoints-*.img"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := editImage(file, func() *mnt.MntEntry { return &mnt.MntEntry{} }, decide); err != nil {
			return err
		}
	}
	return nil
}

// writeFolders writes what CRIU unpacks into a file system in memory: empty folders, and for a hierarchy of several controllers a link by each of their
// names, as OCI runtimes make them.
func writeFolders(file string, points []string) error {
	var out bytes.Buffer
	packed := gzip.NewWriter(&out)
	archive := tar.NewWriter(packed)
	for _, point := range points {
		name := path.Base(point)
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "./" + name + "/", Mode: 0o755}); err != nil {
			return err
		}
		parts := strings.Split(name, ",")
		for _, part := range parts {
			if len(parts) < 2 || slices.Contains(points, path.Join(path.Dir(point), part)) {
				continue
			}
			if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "./" + part, Linkname: name, Mode: 0o777}); err != nil {
				return err
			}
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o600)
}
