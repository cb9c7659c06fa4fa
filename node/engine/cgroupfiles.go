package engine

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hasOwnGroups tells whether a container has a namespace of control groups of its own, in which its group is the root.
func hasOwnGroups(spec *specs.Spec) bool {
	return spec.Linux != nil && slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.CgroupNamespace && n.Path == ""
	})
}

// groupBelowPod is the group of a container below that of its pod, in the middle of a name: as kubelet calls them with both of its drivers.
var groupBelowPod = regexp.MustCompile(`^/kubepods.*pod[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}(\.slice)?/[^/]+`)

// adaptGroups changes the captured open files of the container's own control group, version 2, to those of the new one's. A privileged container
// sees all groups of its node, so that the name of its own one is in theirs. Every Go program has such a file open, to know its processor time.
func adaptGroups(images string, spec *specs.Spec) error {
	at := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })
	if at < 0 || !isUnified() || hasOwnGroups(spec) || spec.Linux == nil || spec.Linux.CgroupsPath == "" {
		return nil
	}
	point, own := path.Clean(spec.Mounts[at].Destination), groupPath(spec.Linux.CgroupsPath)
	return rewriteImage(filepath.Join(images, "files.img"), maxFilesSize, func(image []byte) ([]byte, error) {
		return editFiles(image, func(file *fdinfo.FileEntry) bool {
			reg := file.GetReg()
			if reg == nil {
				return false
			}
			name, changed := ownGroupName(reg.GetName(), point, own)
			if changed {
				reg.Name = &name
			}
			return changed
		})
	})
}

// ownGroupName returns what a file of a container's group is called when the group is another.
func ownGroupName(name, point, own string) (string, bool) {
	below, is := strings.CutPrefix(name, point)
	if !is {
		return name, false
	}
	old := groupBelowPod.FindString(below)
	if old == "" || old == own {
		return name, false
	}
	return point + own + strings.TrimPrefix(below, old), true
}

// groupPath is the folder of a control group below the mount point, by the path that a spec has of it: for systemd's driver that is SLICE:PREFIX:NAME
// (runc's docs/systemd.md).
func groupPath(written string) string {
	parts := strings.Split(written, ":")
	if len(parts) != 3 {
		return path.Join("/", written)
	}
	unit := parts[2]
	if !strings.HasSuffix(unit, ".slice") {
		unit = parts[1] + "-" + unit + ".scope"
	}
	return path.Join(slicePath(parts[0]), unit)
}

// slicePath is the folder of a slice: a-b.slice lies in a.slice (systemd.slice(5)).
func slicePath(slice string) string {
	name, whole := strings.TrimSuffix(slice, ".slice"), "/"
	if name == "" {
		return "/system.slice"
	}
	above := ""
	for part := range strings.SplitSeq(name, "-") {
		above += part
		whole = path.Join(whole, above+".slice")
		above += "-"
	}
	return whole
}
