package engine

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// place is what the new container has mounted at a path.
type place struct {
	// kinds are those that CRIU may mount anew there; none for a bind mount, of which an OCI runtime tells CRIU by the path.
	kinds []mnt.Fstype
	// flags are those that the spec asks for; unix.MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC.
	flags uint32
	// groups says that the hierarchies of control groups, version 1, lie below.
	groups bool
	// source is what a bind mount shows of the node; deep says that it does with all that is mounted below it.
	source string
	deep   bool
}

// kindsOf are CRIU's names for what an OCI spec mounts anew. Control groups of version 1 are a file system in memory with the hierarchies below it.
var kindsOf = map[string][]mnt.Fstype{
	"proc": {mnt.Fstype_PROC}, "sysfs": {mnt.Fstype_SYSFS}, "tmpfs": {mnt.Fstype_TMPFS}, "devpts": {mnt.Fstype_DEVPTS}, "mqueue": {mnt.Fstype_MQUEUE},
	"devtmpfs": {mnt.Fstype_DEVTMPFS}, "debugfs": {mnt.Fstype_DEBUGFS}, "tracefs": {mnt.Fstype_TRACEFS}, "securityfs": {mnt.Fstype_SECURITYFS},
	"fusectl": {mnt.Fstype_FUSECTL}, "pstore": {mnt.Fstype_PSTORE}, "binfmt_misc": {mnt.Fstype_BINFMT_MISC},
	"cgroup": {mnt.Fstype_CGROUP2}, "cgroup2": {mnt.Fstype_CGROUP2},
}

// runcDevices are those that runc gives every container.
var runcDevices = []string{nullDevice, "/dev/random", "/dev/full", "/dev/tty", "/dev/zero", "/dev/urandom"}

// placesOf returns what the new container has mounted, by the paths that its mounts come to lie at: an OCI runtime follows the links of the image.
func placesOf(root string, spec *specs.Spec) map[string][]place {
	places := map[string][]place{}
	for _, m := range spec.Mounts {
		at := []string{path.Clean(m.Destination)}
		if followed := insideRoot(root, m.Destination); followed != at[0] {
			at = append(at, followed)
		}
		for _, point := range at {
			places[point] = append(places[point], placesFor(m)...)
		}
	}
	devices := slices.Clone(runcDevices)
	if spec.Linux != nil {
		for _, device := range spec.Linux.Devices {
			devices = append(devices, path.Clean(device.Path))
		}
	}
	for _, device := range devices {
		if places[device] == nil {
			places[device] = []place{{}}
		}
	}
	return places
}

// placesFor returns what a mount of a spec may be.
func placesFor(m specs.Mount) []place {
	p := place{flags: askedFlags(m.Options)}
	if isBind(m) {
		p.source, p.deep = realOf(m.Source), slices.Contains(m.Options, "rbind")
	} else {
		p.kinds = append([]mnt.Fstype{}, kindsOf[m.Type]...)
	}
	if m.Type != "cgroup" || isBind(m) {
		return []place{p}
	}
	p.groups = true
	return []place{p, {kinds: []mnt.Fstype{mnt.Fstype_TMPFS}, flags: p.flags &^ unix.MS_RDONLY}} // nothing in memory is the node's
}

// placesAt returns what the new container has mounted at a path.
func (c *mountCheck) placesAt(point string) []place {
	found := slices.Clone(c.places[point])
	for _, p := range c.places[path.Dir(point)] {
		if !p.groups {
			continue
		}
		found = append(found, place{flags: p.flags}) // a bind mount of the container's own group
		if c.spec.Linux != nil && slices.ContainsFunc(c.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace }) {
			found = append(found, place{kinds: []mnt.Fstype{mnt.Fstype_CGROUP}, flags: p.flags})
		}
	}
	return found
}

// binds returns what of that is a bind mount, with the path as its key.
func (c *mountCheck) binds(point string) []place {
	return slices.DeleteFunc(c.placesAt(point), func(p place) bool { return p.kinds != nil })
}

// mostLinks bounds how many links a path is followed by, as in the kernel.
const mostLinks = 40

// insideRoot returns where a path of a container leads to when links do not lead out of its root. What is not there yet has no links.
func insideRoot(root, name string) string {
	at, rest := "/", path.Clean("/"+name)
	for links := 0; rest != "" && rest != "/"; {
		first, more, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
		rest = more
		switch first {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		target, err := os.Readlink(filepath.Join(root, at, first))
		if err != nil || links == mostLinks {
			at = path.Join(at, first)
			continue
		}
		links++
		if path.IsAbs(target) {
			at = "/"
		}
		rest = target + "/" + rest
	}
	return at
}

// realOf returns a path without links, as far as there is something.
func realOf(name string) string {
	if followed, err := filepath.EvalSymlinks(name); err == nil {
		return followed
	}
	return name
}
