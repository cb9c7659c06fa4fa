package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// diskScript makes a file system of a base tree and a layer above it. It runs in a mount namespace of its own.
const diskScript = `set -e
mount -t overlay overlay -o "ro,lowerdir=$LAYER:$BASE" "$ROOT"
truncate --size="$SIZE" "$DISK"
mkfs.ext4 -q -F -m 0 -L root -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -d "$ROOT" "$DISK"
`

// Disk makes dir with what a virtual machine boots from: the kernel and the initial file system that the layer brought (vmlinuz, initrd.img), and
// root.img, a sparse ext4 of that size with both trees. dir must not exist.
func Disk(ctx context.Context, base, layer, dir string, size int64) error {
	partial := dir + ".partial"
	root, boot := filepath.Join(partial, "merged"), filepath.Join(partial, "boot")
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(root, 0o755), os.MkdirAll(boot, 0o755)); err != nil {
		return err
	}
	for name, pattern := range map[string]string{"vmlinuz": "boot/vmlinuz-*", "initrd.img": "boot/initrd.img-*"} {
		found, err := filepath.Glob(filepath.Join(layer, pattern))
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("the tree has %d files %s, not one", len(found), pattern)
		}
		if err := run(ctx, "cp", found[0], filepath.Join(boot, name)); err != nil {
			return err
		}
	}
	command := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "sh", "-c", diskScript)
	command.Env = append(os.Environ(), "BASE="+base, "LAYER="+layer, "ROOT="+root, "DISK="+filepath.Join(boot, "root.img"), fmt.Sprintf("SIZE=%d", size))
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("make a disk: %w:\n%s", err, tail(output))
	}
	return errors.Join(os.Rename(boot, dir), os.RemoveAll(partial))
}
