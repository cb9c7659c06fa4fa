package parts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/debian"
	"github.com/transparent-checkpoint/operator/tests/cluster/host"
)

// machinePackages are a Debian for virtual machines, with what kubelet, kube-proxy, CNI plugins and containerd call. It has no CRIU: who needs one there
// brings it.
var machinePackages = append([]string{
	"apparmor", "ca-certificates", "dbus", "libseccomp2", "linux-image-cloud-amd64", "openssh-server", "socat", "systemd", "systemd-sysv", "udev", "zstd",
}, nodePackages...)

// machineDisk is the size of the file system as it is built; a node makes its own larger.
const machineDisk = int64(2 << 30)

// Machine is a folder with what a virtual machine boots from: vmlinuz, initrd.img and root.img. Nothing in it is of this project.
type Machine string

// Machine builds, unless the cache has it, what the virtual machines boot from.
func (b Builder) Machine(ctx context.Context) (Machine, error) {
	if err := b.prerequisites(); err != nil {
		return "", err
	}
	var missing []string
	for program, origin := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", "resize2fs": "e2fsprogs", "ssh": "openssh-client"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Sprintf("%s (%s)", program, origin))
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("the machine lacks %s; `make vm-image` installs them", strings.Join(missing, ", "))
	}
	lock, err := host.Lock(filepath.Join(b.Cache, "lock"), 30*time.Minute)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	cache := debian.Cache{Dir: b.Cache}
	base, err := b.base(ctx)
	if err != nil {
		return "", err
	}
	key := short(debian.Suite + strings.Join(machinePackages, " "))
	dir, err := b.once("make the disk of a virtual machine", "about 2 minutes", "machine", key, func(dir string) error {
		layer := filepath.Join(dir, "layer")
		if err := cache.Layer(ctx, filepath.Join(base, "tree"), layer, machinePackages); err != nil {
			return err
		}
		return errors.Join(debian.Disk(ctx, filepath.Join(base, "tree"), layer, filepath.Join(dir, "boot"), machineDisk), os.RemoveAll(layer))
	})
	return Machine(filepath.Join(dir, "boot")), err
}
