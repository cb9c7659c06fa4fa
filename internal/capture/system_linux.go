package capture

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryLock locks a file until it is closed, or says errLocked.
func tryLock(file *os.File, with sharing) error {
	how := unix.LOCK_EX
	if with == shared {
		how = unix.LOCK_SH
	}
	err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

// awaitLock locks a file until it is closed, alone, when nobody else has it locked any more.
func awaitLock(file *os.File) error { return unix.Flock(int(file.Fd()), unix.LOCK_EX) }

// freeBytes returns what may be written to the disk of a folder.
func freeBytes(dir string) (int64, error) {
	var disk unix.Statfs_t
	err := unix.Statfs(dir, &disk)
	return int64(disk.Bavail) * disk.Bsize, err
}

// diskBytes returns what a file takes on the disk, holes left out.
func diskBytes(info fs.FileInfo) int64 { return info.Sys().(*syscall.Stat_t).Blocks * 512 }
