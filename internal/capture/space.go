package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ReservedFile lies in a folder that is being filled: how many bytes it will have in all, as a decimal number.
const ReservedFile = "reserved"

// NoSpaceError says that the node's disk has no room for something, others' reservations counted.
type NoSpaceError struct{ Need, Free int64 } // bytes

// Error says how much there is and how much is wanted.
func (e *NoSpaceError) Error() string {
	return fmt.Sprintf("the state takes about %d MiB; the node's disk has %d MiB that nobody else has reserved", e.Need>>20, e.Free>>20)
}

// Reserve reserves room on the node's disk for so many bytes that will be written into dir beside what it has, a capture's partial folder or a pod's folder of
// restores. A NoSpaceError says that there is not enough. The reservation ends when ReservedFile is removed, or dir is.
func (n Node) Reserve(dir string, need int64) error {
	path := filepath.Join(n.Root, "run/checkpoint/space.lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := awaitLock(lock); err != nil { // for the time of a look
		return err
	}
	if err := Unreserve(dir); err != nil {
		return err
	}
	free, err := freeBytes(dir)
	if err != nil {
		return err
	}
	outstanding, err := n.outstanding()
	if err != nil {
		return err
	}
	if free -= outstanding; need > free {
		return &NoSpaceError{Need: need, Free: max(0, free)}
	}
	has, err := DiskUsage(dir)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ReservedFile), []byte(strconv.FormatInt(need+has, 10)), 0o600)
}

// Unreserve ends a reservation; that there is none is no error.
func Unreserve(dir string) error {
	if err := os.Remove(filepath.Join(dir, ReservedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// outstanding returns how many bytes others have reserved and not written yet.
func (n Node) outstanding() (int64, error) {
	sum := int64(0)
	for _, pattern := range []string{filepath.Join(n.CapturesRoot(), "*", "*.partial", ReservedFile), filepath.Join(n.RestoresRoot(), "*", ReservedFile)} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return 0, err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) { // just done
				continue
			}
			reserved, parseErr := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
			if err := errors.Join(err, parseErr); err != nil {
				return 0, fmt.Errorf("read %s: %w", file, err)
			}
			has, err := DiskUsage(filepath.Dir(file))
			if err != nil {
				return 0, err
			}
			sum += max(0, reserved-has)
		}
	}
	return sum, nil
}

// DiskUsage returns what the files below dir take on the disk, in bytes. What is gone by then takes nothing.
func DiskUsage(dir string) (int64, error) {
	sum := int64(0)
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				sum += diskBytes(info)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return sum, err
}
