package node

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// mountRoot gives the node a root of its own and leaves the machine's file tree: the parts and a Debian tree below, read only, and
// the node's disk above. /var/lib lies on the disk itself, as containerd's snapshots want a file system that is no overlay.
// All mounts are in the node's mount namespace alone and go with it, the loop device too.
func mountRoot(c spec.Cluster, state *spec.State, n spec.Node) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	dir := c.NodeDir(n.Name)
	disk, root := filepath.Join(dir, "disk"), filepath.Join(dir, "root")
	if err := mountDisk(filepath.Join(dir, "disk.img"), disk, n.DiskBytes); err != nil {
		return err
	}
	for _, path := range []string{root, filepath.Join(disk, "root"), filepath.Join(disk, "work"), filepath.Join(disk, "var-lib")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	if err := firstBoot(filepath.Join(disk, "root"), ProvisionDir(c, n)); err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	lower := []string{filepath.Join(state.Parts, "node"), filepath.Join(state.Parts, "debian")}
	if n.Older != "" {
		lower = slices.Insert(lower, 0, n.Older)
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(lower, ":"), filepath.Join(disk, "root"), filepath.Join(disk, "work"))
	if err := unix.Mount("overlay", root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount overlay (%s): %w", layers, err)
	}
	if err := unix.Mount(filepath.Join(disk, "var-lib"), filepath.Join(root, "var/lib"), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /var/lib: %w", err)
	}
	if err := mountKernelTrees(root); err != nil {
		return err
	}
	if err := changeRoot(root); err != nil {
		return err
	}
	return unix.Sethostname([]byte(n.Name))
}

// mountDisk mounts the disk image, which it makes at the first boot: a sparse file with an ext4 of the node's size.
func mountDisk(image, point string, size int64) error {
	if _, err := os.Stat(image); errors.Is(err, fs.ErrNotExist) {
		if err := makeDisk(image, size); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := os.MkdirAll(point, 0o755); err != nil {
		return err
	}
	return run("mount", "-t", "ext4", "-o", "loop,noatime", image, point)
}

func makeDisk(image string, size int64) error {
	partial := image + ".partial"
	if err := os.WriteFile(partial, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(partial, size); err != nil {
		return err
	}
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", partial); err != nil {
		return err
	}
	return os.Rename(partial, image)
}

func run(name string, args ...string) error {
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}

// firstBoot copies the node's files to its disk, once: later changes, by whoever is root there, stay.
func firstBoot(disk, provision string) error {
	done := filepath.Join(disk, "etc/machine-id")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.CopyFS(disk, os.DirFS(provision)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := installCRIU(disk); err != nil {
		return err
	}
	id, err := randomID()
	if err != nil {
		return err
	}
	return spec.WriteFile(done, []byte(id+"\n"), 0o444)
}

// installCRIU makes the bundle the `criu` of the node's PATH. Where the kernel withholds CAP_SYS_RESOURCE, which CRIU needs to ask for
// the limits of another user's processes, it is called with a shim that asks /proc instead.
func installCRIU(disk string) error {
	shimmed, err := NeedsShim()
	if err != nil {
		return err
	}
	call := "exec " + spec.CRIUDirectory + "/criu \"$@\"\n"
	if shimmed {
		call = "LD_PRELOAD=" + spec.CRIUDirectory + "/prlimit-shim.so${LD_PRELOAD:+:$LD_PRELOAD} " + call
	}
	return spec.WriteFile(filepath.Join(disk, "usr/local/sbin/criu"), []byte("#!/bin/sh\n"+call), 0o755)
}

// NeedsShim tells whether CRIU runs with the prlimit shim on this machine.
func NeedsShim() (bool, error) {
	has, err := host.HasCapability(unix.CAP_SYS_RESOURCE)
	return !has, err
}

// changeRoot makes root the root of the namespace and lets go of the machine's tree.
func changeRoot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the machine's tree: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// As on a machine with systemd: what is mounted in a pod's volume shows on the node and the other way round.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

func randomID() (string, error) {
	id := make([]byte, 16)
	_, err := rand.Read(id)
	return hex.EncodeToString(id), err
}
