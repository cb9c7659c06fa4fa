package capture

import (
	"fmt"
	"regexp"
)

// StorageVolume is a volume of a pod in which its states are kept, in the place of a bucket.
type StorageVolume struct {
	// Name is the volume's name in the pod.
	Name string `json:"name"`
	// Kind and Source say which volume it is, for another pod as well: PersistentVolumeClaim and the name of the claim, HostPath and the folder, or NFS
	// and SERVER:PATH.
	Kind   string `json:"kind"`
	Source string `json:"source"`
	// Mounts says where it is mounted in those captured containers that may write to it, by their names: paths in the container. The container that is
	// made first is among them.
	Mounts map[string]string `json:"mounts"`
	// Line is the same for all pods that take each other's place, where no other pod can: of their states few are kept. Without it the states of a pod
	// are of the line of the one that it was restored from.
	Line string `json:"line,omitempty"`
}

// String is the volume for a person.
func (v *StorageVolume) String() string {
	return fmt.Sprintf("volume %q (%s %s)", v.Name, v.Kind, v.Source)
}

// KeptFolder is the folder in a storage volume that holds states. It is no part of what is captured or put back of a volume.
const KeptFolder = ".transparent-checkpoint"

// KeptFile is a state as one file in a storage volume: a tar of a capture's folder, compressed by zstd.
type KeptFile struct {
	// Name is that of the file in KeptFolder.
	Name string `json:"name"`
	// SizeBytes is its size, and Digest the SHA-256 of all of it, as sha256:HEX. Whoever can write to the volume can change it; so nothing in it counts
	// before both fit.
	SizeBytes int64  `json:"sizeBytes"`
	Digest    string `json:"digest"`
	// ContentBytes is what its content takes on the node, in bytes.
	ContentBytes int64 `json:"contentBytes"`
}

// keptName is what a KeptFile is named: pod, line, and the time of its capture with the number that it has among those of the pod.
var keptName = regexp.MustCompile(`^([a-z0-9][a-z0-9.-]*)\.([a-z0-9-]+)\.(\d{8}T\d{6}-\d+)\.tar\.zst$`)

// KeptName puts the name of a KeptFile together. Of one line, later times come later in the order of names.
func KeptName(pod, line, time string) string {
	const most = 100 // of 255 for all
	return fmt.Sprintf("%s.%s.%s.tar.zst", pod[:min(len(pod), most)], line, time)
}

// ParseKeptName takes it apart; false says that it is none.
func ParseKeptName(name string) (line, time string, is bool) {
	match := keptName.FindStringSubmatch(name)
	if match == nil {
		return "", "", false
	}
	return match[2], match[3], true
}
