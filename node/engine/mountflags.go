package engine

import (
	"cmp"
	"errors"
	"path/filepath"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// flagNames are the options of a mount that take something away from who uses it, in the order in which they are named to people.
var flagNames = []struct {
	name, opposite string
	flag           uint32
}{
	{"ro", "rw", unix.MS_RDONLY}, {"nosuid", "suid", unix.MS_NOSUID}, {"nodev", "dev", unix.MS_NODEV}, {"noexec", "exec", unix.MS_NOEXEC},
}

// restricting are all of them.
const restricting = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// askedFlags are those flags that an OCI spec asks for; the last word counts, and one for all that lies below as well is the one with an "r" before it.
func askedFlags(options []string) (flags uint32) {
	for _, option := range options {
		for _, one := range flagNames {
			switch option {
			case one.name, "r" + one.name:
				flags |= one.flag
			case one.opposite, "r" + one.opposite:
				flags &^= one.flag
			}
		}
	}
	return flags
}

// flagWords names flags, as "ro,nosuid".
func flagWords(flags uint32) string {
	var words []string
	for _, one := range flagNames {
		if flags&one.flag != 0 {
			words = append(words, one.name)
		}
	}
	return cmp.Or(strings.Join(words, ","), "as they are")
}

// flagsOf are the flags of a mount that CRIU makes anew, with the file system's own.
func flagsOf(m *mnt.MntEntry) uint32 { return m.GetFlags() | m.GetSbFlags()&unix.MS_RDONLY }

// spareFlags are flags that the kernel leaves alone when it changes those of a bind mount.
var spareFlags = []uint32{unix.MS_SYNCHRONOUS, unix.MS_DIRSYNC, unix.MS_SILENT, unix.MS_POSIXACL, unix.MS_I_VERSION, unix.MS_LAZYTIME}

// withSpare returns flags that differ from those of other mounts by spare ones, which count.
func withSpare(flags uint32, count int) uint32 {
	for i, spare := range spareFlags {
		flags &^= spare
		if count>>i&1 != 0 {
			flags |= spare
		}
	}
	return flags
}

// keepMountFlags has the mounts of the state have the flags that the new container asks for.
func (r *restoration) keepMountFlags() error {
	root, err := rootOf(r.bundle.Dir, r.spec)
	if err != nil {
		return err
	}
	node, err := mountLines()
	if err != nil {
		return err
	}
	return keepFlags(r.images(), root, r.spec, node)
}

// keepFlags has bind mounts be as the new container has them: read-only, nosuid, nodev, noexec. CRIU forgets that of a bind mount for which the state has
// another of the same file system with the same flags (mount-v2.c, do_bind_mount_v2: it takes the one for a copy of the other, and mounts it from
// outside all the same); so the flags are made to differ. A state of a container that was restored before that was known has lost them already.
func keepFlags(images, root string, spec *specs.Spec, node []mountLine) error {
	c := newMountCheck(root, spec, node)
	files, err := filepath.Glob(filepath.Join(images, "mountpoints-*.img"))
	for _, file := range files {
		if err := c.read(file); err != nil {
			return err
		}
		var flags []uint32
		count, next := 0, 0
		for _, m := range c.all {
			asked, err := c.asked(m)
			if err != nil {
				return err
			}
			now := m.GetFlags() | asked
			if m.ExtKey != nil && now&restricting != 0 {
				count++
				now = withSpare(now, 1+(count-1)%(1<<len(spareFlags)-1))
			}
			flags = append(flags, now)
		}
		err = errors.Join(err, editImage(file, func() *mnt.MntEntry { return &mnt.MntEntry{} }, func(m *mnt.MntEntry) edit {
			now := flags[next]
			next++
			if now == m.GetFlags() {
				return leaveEntry
			}
			m.Flags = &now
			return changeEntry
		}))
	}
	return err
}

// asked are the flags that a mount from outside, or a part of one that is mounted below it where this node has none, is to have. By now the volumes have
// what the state says, and with it links, over which no such part may lead.
func (c *mountCheck) asked(m *mnt.MntEntry) (uint32, error) {
	if m.ExtKey != nil || c.free {
		return c.askedOutside(m), nil
	}
	volume, of := c.volumeOf(m)
	if volume == nil || m.GetRootDev() != volume.GetRootDev() || c.isFresh(m) {
		return 0, nil
	}
	if !c.isPart(m, volume, of) {
		return 0, c.refuse(m)
	}
	part, _ := partIn(m, volume)
	if c.isOnNode(m, volume, of, func(line mountLine) bool { return strings.HasSuffix(line.root+"/", "/"+part) }) {
		return 0, nil
	}
	return of.flags, nil
}

// askedOutside are the flags that a mount from outside is to have.
func (c *mountCheck) askedOutside(m *mnt.MntEntry) uint32 {
	if m.ExtKey == nil || c.free {
		return 0
	}
	for _, p := range c.binds(m.GetMountpoint()) {
		return p.flags
	}
	return 0
}
