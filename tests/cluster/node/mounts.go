package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
)

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mountKernelTrees mounts below root what a machine has from its kernel. /run and /tmp start empty at every boot, and so does
// everything that containerd and the runtimes keep there.
func mountKernelTrees(root string) error {
	mounts := []mount{
		{"proc", "proc", "proc", quiet, ""},
		{"sysfs", "sys", "sysfs", quiet, ""},
		{"devtmpfs", "dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
		{"devpts", "dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,gid=5,mode=620,ptmxmode=666"},
		{"shm", "dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "dev/mqueue", "mqueue", quiet, ""},
		{"run", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmp", "tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
	for _, m := range mounts {
		if err := m.mount(root); err != nil {
			return err
		}
	}
	if err := mountCgroups(root); err != nil {
		return err
	}
	return newBootID(root)
}

func (m mount) mount(root string) error {
	target := filepath.Join(root, m.target)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on /%s: %w", m.fstype, m.target, err)
	}
	return nil
}

// mountCgroups mounts the hierarchies that the machine has, as they look from the node's cgroup namespace.
func mountCgroups(root string) error {
	hierarchies, err := host.Hierarchies()
	if err != nil {
		return err
	}
	if len(hierarchies) == 1 && hierarchies[0].V2 {
		if err := (mount{"cgroup2", "sys/fs/cgroup", "cgroup2", quiet, "nsdelegate"}).mount(root); err != nil {
			return err
		}
		return leaveCgroupRoot(filepath.Join(root, "sys/fs/cgroup"))
	}
	if err := (mount{"tmpfs", "sys/fs/cgroup", "tmpfs", quiet, "mode=755"}).mount(root); err != nil {
		return err
	}
	for _, h := range hierarchies {
		m := mount{"cgroup", strings.TrimPrefix(h.MountPoint, "/"), "cgroup", quiet, h.Options}
		if h.V2 {
			m.fstype, m.source = "cgroup2", "cgroup2"
		}
		if err := m.mount(root); err != nil {
			return err
		}
	}
	return nil
}

// leaveCgroupRoot moves the init out of the node's root cgroup, as version 2 lets a group have either processes or children with
// controllers.
func leaveCgroupRoot(dir string) error {
	leaf := filepath.Join(dir, "init")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("leave the root cgroup: %w", err)
	}
	host.EnableControllers(dir)
	return nil
}

// newBootID lets the node tell its boots apart, as kubelet does: the kernel's own id is the machine's.
func newBootID(root string) error {
	id, err := randomID()
	if err != nil {
		return err
	}
	uuid := fmt.Sprintf("%s-%s-%s-%s-%s\n", id[:8], id[8:12], id[12:16], id[16:20], id[20:])
	file := filepath.Join(root, "run/boot_id")
	if err := os.WriteFile(file, []byte(uuid), 0o444); err != nil {
		return err
	}
	if err := unix.Mount(file, filepath.Join(root, "proc/sys/kernel/random/boot_id"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount boot_id: %w", err)
	}
	return nil
}
