package engine

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// What the kernel shows below /proc and /sys differs from node to node. An OCI runtime hides or protects of it what is there when it makes a container.

// guarded are the paths that the runtime hides or protects in a container.
func guarded(spec *specs.Spec) []string {
	if spec.Linux == nil {
		return nil
	}
	return slices.Concat(spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths)
}

// dropGuards takes out the mounts over paths that this node's kernel does not have: there is nothing to hide, and CRIU finds no place for them.
func dropGuards(images string, spec *specs.Spec) error {
	paths := guarded(spec)
	return editMounts(images, func(m *mnt.MntEntry) edit {
		if !slices.Contains(paths, m.GetMountpoint()) {
			return leaveEntry
		}
		if _, err := os.Stat(m.GetMountpoint()); !errors.Is(err, fs.ErrNotExist) {
			return leaveEntry
		}
		return dropEntry
	})
}

// addGuards protects what this node's kernel has below /proc and the former one's had not.
func addGuards(images string, spec *specs.Spec) error {
	if spec.Linux == nil {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(images, "mountpoints-*.img"))
	last := uint32(0)
	err = errors.Join(err, editMounts(images, func(m *mnt.MntEntry) edit {
		last = max(last, m.GetMntId())
		return leaveEntry
	}))
	for _, file := range files {
		err = errors.Join(err, rewriteImage(file, maxFilesSize, func(image []byte) ([]byte, error) {
			mounted := map[string]*mnt.MntEntry{}
			_, err := mapEntries(image, func(entry []byte) ([]byte, error) {
				m := &mnt.MntEntry{}
				err := proto.Unmarshal(entry, m)
				mounted[m.GetMountpoint()] = m
				return entry, err
			})
			proc := mounted["/proc"]
			for _, path := range spec.Linux.ReadonlyPaths {
				inside, below := strings.CutPrefix(path, "/proc")
				if _, missing := os.Stat(path); !below || proc == nil || err != nil || missing != nil || mounted[path] != nil {
					continue
				}
				last++
				guard, _ := proto.Clone(proc).(*mnt.MntEntry)
				guard.MntId, guard.ParentMntId, guard.Mountpoint, guard.Root = proto.Uint32(last), proc.MntId, &path, &inside
				guard.Flags = proto.Uint32(proc.GetFlags() | unix.MS_RDONLY)
				var entry []byte
				entry, err = proto.Marshal(guard)
				image = append(binary.LittleEndian.AppendUint32(slices.Clone(image), uint32(len(entry))), entry...)
			}
			return image, err
		}))
	}
	return err
}

// checkGuards refuses a state of another kernel when this one shows something to hide that the other did not have: CRIU mounts what was mounted, and
// the program could reach it.
func checkGuards(images string, spec *specs.Spec) error {
	mounted := map[string]bool{}
	err := editMounts(images, func(m *mnt.MntEntry) edit {
		mounted[m.GetMountpoint()] = true
		return leaveEntry
	})
	if err != nil {
		return err
	}
	for _, path := range guarded(spec) {
		added := mounted["/proc"] && strings.HasPrefix(path, "/proc/") && slices.Contains(spec.Linux.ReadonlyPaths, path)
		if _, err := os.Stat(path); err == nil && !mounted[path] && !added {
			return specMismatch("procMount", path+" not there", path+" to be hidden or read-only")
		}
	}
	return nil
}
