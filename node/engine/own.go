package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	remap "github.com/checkpoint-restore/go-criu/v8/crit/images/remap-file-path"
)

// dataLink is the link by which kubelet shows the present content of a ConfigMap, Secret, projected or downward API volume; what it leads to is a
// folder whose name has a time in it (k8s.io/kubernetes/pkg/volume/util/atomic_writer.go).
const dataLink = "..data"

// adaptOwn changes the captured open files that lie in what the new pod has of its own: destinations of mounts, and what is mounted there. They are
// of another size, and in folders of another name; one whose name was gone, as its content had changed, is the present one again.
func adaptOwn(images string, own map[string]string) error {
	mine := map[uint32]bool{}
	files := filepath.Join(images, "files.img")
	err := editImage(files, func() *fdinfo.FileEntry { return &fdinfo.FileEntry{} }, func(file *fdinfo.FileEntry) edit {
		done := leaveEntry
		if reg := file.GetReg(); reg != nil {
			name, is := ownName(reg.GetName(), own)
			if mine[reg.GetId()] = is; is && (reg.Size != nil || name != reg.GetName()) {
				reg.Name, reg.Size, done = &name, nil, changeEntry // the size would be checked
			}
		}
		for _, watch := range file.GetIfy().GetWd() {
			handle := watch.GetFHandle()
			if handle.GetPath() == "" {
				continue
			}
			if name, is := ownName(handle.GetPath(), own); is && name != handle.GetPath() {
				handle.Path, done = &name, changeEntry
			}
		}
		return done
	})
	if err != nil {
		return err
	}
	removed := filepath.Join(images, "remap-fpath.img")
	err = editImage(removed, func() *remap.RemapFilePathEntry { return &remap.RemapFilePathEntry{} }, func(r *remap.RemapFilePathEntry) edit {
		if mine[r.GetOrigId()] {
			return dropEntry
		}
		return leaveEntry
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ownName returns the name that a file has in the new pod, and whether it is in one of its own mounts.
func ownName(name string, own map[string]string) (string, bool) {
	destination := mountOf(name, own)
	if destination == "" {
		return name, false
	}
	rest, below := strings.CutPrefix(name, destination+"/")
	if !below {
		return name, true
	}
	first, deeper, _ := strings.Cut(rest, "/")
	if !strings.HasPrefix(first, "..") || first == dataLink {
		return name, true
	}
	present, err := os.Readlink(filepath.Join(own[destination], dataLink))
	if err != nil || strings.Contains(present, "/") || !strings.HasPrefix(present, "..") {
		return name, true
	}
	return filepath.Join(destination, present, deeper), true
}

// mountOf returns which of the destinations a file lies at or below, the deepest one.
func mountOf(name string, own map[string]string) string {
	for at := name; at != "/" && at != "."; at = filepath.Dir(at) {
		if _, is := own[at]; is {
			return at
		}
	}
	return ""
}

// adaptMounts has CRIU take what is mounted from outside as it is: what was removed before the capture, as the former file of a ConfigMap that
// changed, is there in the new pod.
func adaptMounts(images string) error {
	return editMounts(images, func(m *mnt.MntEntry) edit {
		if !m.GetDeleted() || m.GetExtKey() == "" && !m.GetExtMount() {
			return leaveEntry
		}
		m.Deleted = nil
		return changeEntry
	})
}
