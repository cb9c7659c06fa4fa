package engine

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// showOwnGroups has a container that is restored see its own control groups, version 1. For such a mount runc's restore takes the groups that runc
// is in itself, which are those of the node's services, or all of the node's: the program would see limits that are not its own, and other pods. So
// the spec names the folders, one by one, for as long as the restore takes. The function that is returned brings the spec back. Version 2 has
// namespaces for it.
func (b Bundle) showOwnGroups(spec *specs.Spec) (restore func() error, err error) {
	at := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })
	none := func() error { return nil }
	if at < 0 || isUnified() || spec.Linux == nil || !filepath.IsAbs(spec.Linux.CgroupsPath) || strings.Contains(spec.Linux.CgroupsPath, ":") {
		return none, nil
	}
	mounts, err := groupMounts(spec.Mounts[at], spec.Linux.CgroupsPath)
	if err != nil {
		return none, err
	}
	for _, mount := range mounts[1:] {
		if err := os.MkdirAll(mount.Source, 0o755); err != nil {
			return none, err
		}
	}
	before, err := os.ReadFile(b.config())
	if err != nil {
		return none, err
	}
	var made []any
	text, err := json.Marshal(mounts)
	if err = errors.Join(err, json.Unmarshal(text, &made)); err != nil {
		return none, err
	}
	err = b.edit(func(spec map[string]any) {
		all, _ := spec["mounts"].([]any)
		spec["mounts"] = slices.Concat(all[:at], made, all[at+1:])
	})
	return func() error { return replaceFile(b.config(), before) }, err
}

// groupMounts returns the mounts that stand for one of control groups: a file system in memory, and below it a folder for each hierarchy.
func groupMounts(whole specs.Mount, path string) ([]specs.Mount, error) {
	all, err := mountLines()
	if err != nil {
		return nil, err
	}
	hierarchies := map[string]bool{}
	for _, m := range all {
		if m.kind == "cgroup" && filepath.Dir(m.point) == cgroupMount {
			hierarchies[m.point] = true
		}
	}
	mounts := []specs.Mount{{Destination: whole.Destination, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "mode=755"}}}
	options := append([]string{"bind"}, slices.DeleteFunc(slices.Clone(whole.Options), func(option string) bool { return strings.HasSuffix(option, "bind") })...)
	for _, point := range slices.Sorted(maps.Keys(hierarchies)) {
		mounts = append(mounts, specs.Mount{
			Destination: filepath.Join(whole.Destination, filepath.Base(point)), Type: "bind", Source: filepath.Join(point, path), Options: options,
		})
	}
	return mounts, nil
}
