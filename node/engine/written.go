package engine

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
)

// ConfigMaps, Secrets, tokens and the downward API are volumes that kubelet writes: the files lie in a folder that has the time in its name, and
// the link ..data leads to it (k8s.io/kubernetes/pkg/volume/util, AtomicWriter). So a file that the former pod had open there has another path in
// the new pod.

// writtenLink leads to the folder that is valid.
const writtenLink = "..data"

// writtenFolder is the name of such a folder.
var writtenFolder = regexp.MustCompile(`^\.\.\d{4}(_\d\d){5}\.\d+$`)

// writtenVolumes returns the volumes among the mounts of a container that kubelet has written: their folders by where they are mounted.
func writtenVolumes(mounts []specs.Mount) map[string]string {
	found := map[string]string{}
	for _, mount := range mounts {
		if target, err := os.Readlink(filepath.Join(mount.Source, writtenLink)); err == nil && writtenFolder.MatchString(target) {
			found[filepath.Clean(mount.Destination)] = target
		}
	}
	return found
}

// adaptWritten has files that are open below such a folder opened below the one that is valid. CRIU refuses one that has another size now.
func adaptWritten(image []byte, volumes map[string]string) ([]byte, error) {
	return editFiles(image, func(file *fdinfo.FileEntry) bool {
		opened := file.GetReg()
		if opened == nil {
			return false
		}
		name, moved := moveWritten(opened.GetName(), volumes)
		if moved {
			opened.Name = proto.String(name)
		}
		return moved
	})
}

// moveWritten returns the new path of a file, and whether it is another one.
func moveWritten(path string, volumes map[string]string) (string, bool) {
	for at, folder := range volumes {
		inside, below := strings.CutPrefix(path, at+"/")
		former, rest, _ := strings.Cut(inside, "/")
		if below && writtenFolder.MatchString(former) && former != folder {
			return strings.TrimSuffix(at+"/"+folder+"/"+rest, "/"), true
		}
	}
	return path, false
}
