package install

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// isEncrypted returns nil if all that is written below a folder of the node passes the kernel's encryption of disks (dm-crypt, as with LUKS), and else an
// error that says what was found. A disk that encrypts itself, or the machine below a virtual one, cannot be seen from here.
func isEncrypted(dir, sys string) error {
	var info unix.Stat_t
	if err := unix.Stat(dir, &info); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	device := fmt.Sprintf("%d:%d", unix.Major(info.Dev), unix.Minor(info.Dev))
	if unix.Major(info.Dev) == 0 {
		const says = "the file system of %s is on no device of its own (%s), as those of overlay, tmpfs, btrfs and zfs, and nothing says that it is encrypted"
		return fmt.Errorf(says, dir, device)
	}
	if err := isEncryptedDevice(filepath.Join(sys, "dev/block", device)); err != nil {
		return fmt.Errorf("the disk of %s (%s) is not encrypted by dm-crypt: %w", dir, device, err)
	}
	return nil
}

// isEncryptedDevice looks at a device of the kernel's, and at those that it is made of: of those each has to be encrypted.
func isEncryptedDevice(dir string) error {
	kind, err := os.ReadFile(filepath.Join(dir, "dm/uuid"))
	if err == nil && strings.HasPrefix(string(kind), "CRYPT-") {
		return nil
	}
	below, err := filepath.Glob(filepath.Join(dir, "slaves/*"))
	if err != nil {
		return err
	}
	if len(below) == 0 {
		name, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return err
		}
		return errors.New(filepath.Base(name) + " is a disk, or a part of one")
	}
	for _, device := range below {
		if err := isEncryptedDevice(device); err != nil {
			return err
		}
	}
	return nil
}
