package vm

import (
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// What a node has to be a node, beside what node.Files knows: units of systemd, and what any guide has one prepare for Kubernetes.
//
//go:embed files
var files embed.FS

// wanted are the units that are started at boot.
var wanted = []string{"containerd.service", "kubelet.service", "kube-proxy.service", "systemd-networkd.service"}

// masked are units that do nothing for a node but take time.
var masked = []string{
	"apparmor.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
}

// MakeDisk makes the disk of a node, unless it is there: a copy of the cluster's machine, with Kubernetes' programs and the node's own files, as by
// somebody who sets up a node. It needs a mount namespace of its own.
func MakeDisk(c spec.Cluster, state *spec.State, n spec.Node, provision func() (map[string][]byte, error)) error {
	image := disk(c, n)
	if _, err := os.Stat(image); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	own, err := provision()
	if err != nil {
		return err
	}
	partial, point := image+".partial", filepath.Join(c.NodeDir(n.Name), "disk")
	if err := os.MkdirAll(point, 0o755); err != nil {
		return err
	}
	if err := run("cp", "--sparse=always", filepath.Join(state.Machine, "root.img"), partial); err != nil {
		return err
	}
	if err := os.Truncate(partial, n.DiskBytes); err != nil {
		return err
	}
	if err := run("resize2fs", partial); err != nil {
		return err
	}
	if err := run("mount", "-t", "ext4", "-o", "loop", partial, point); err != nil {
		return err
	}
	if err := errors.Join(furnish(point, state.Parts, n, own), unix.Unmount(point, 0)); err != nil {
		return err
	}
	return os.Rename(partial, image)
}

// furnish writes what makes a fresh machine this node.
func furnish(root, parts string, n spec.Node, provision map[string][]byte) error {
	for _, dir := range []string{"usr/local/bin", "usr/local/sbin", "opt/cni/bin"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
		if err := run("cp", "--archive", filepath.Join(parts, "node", dir)+"/.", filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	if n.Older != "" {
		if err := run("cp", "--archive", n.Older+"/.", root); err != nil {
			return err
		}
	}
	if err := installUnits(root); err != nil {
		return err
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	own := map[string][]byte{
		"etc/machine-id":                    []byte(hex.EncodeToString(id) + "\n"),
		"etc/systemd/network/eth0.network":  fmt.Appendf(nil, "[Match]\nName=eth0\n\n[Network]\nAddress=%s/%d\nGateway=%s\n", n.IP(), spec.NodeNetBits, spec.PlaneIP),
		"etc/systemd/system/kubelet.env":    fmt.Appendf(nil, "NODE_NAME=%s\nNODE_IP=%s\n", n.Name, n.IP()),
		"etc/systemd/system.conf.d/no.conf": []byte("[Manager]\nDefaultTimeoutStartSec=300s\n"), // everything takes ten times as long
	}
	for _, more := range []map[string][]byte{own, provision} {
		for path, data := range more {
			if err := spec.WriteFile(filepath.Join(root, path), data, modeOf(path)); err != nil {
				return err
			}
		}
	}
	return nil
}

// modeOf is who may read a file: keys are root's.
func modeOf(path string) fs.FileMode {
	if strings.HasPrefix(path, "etc/kubernetes/") || strings.HasPrefix(path, "root/") {
		return 0o600
	}
	return 0o644
}

func installUnits(root string) error {
	tree, err := fs.Sub(files, "files")
	if err != nil {
		return err
	}
	err = fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		return spec.WriteFile(filepath.Join(root, "etc", path), data, 0o644)
	})
	if err != nil {
		return err
	}
	units := filepath.Join(root, "etc/systemd/system")
	if err := os.MkdirAll(filepath.Join(units, "multi-user.target.wants"), 0o755); err != nil {
		return err
	}
	for _, unit := range wanted {
		at := "/etc/systemd/system/" + unit
		if strings.HasPrefix(unit, "systemd-") {
			at = "/usr/lib/systemd/system/" + unit
		}
		if err := os.Symlink(at, filepath.Join(units, "multi-user.target.wants", unit)); err != nil {
			return err
		}
	}
	for _, unit := range masked {
		if err := errors.Join(removed(filepath.Join(units, unit)), os.Symlink("/dev/null", filepath.Join(units, unit))); err != nil {
			return err
		}
	}
	return nil
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func run(name string, args ...string) error {
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(output)))
	}
	return nil
}
