package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mounts are made inside the container, by one that may.
var mounts = map[string]hold{
	"mount-tmpfs":     mount("none", "tmpfs", 0, ""),
	"mount-ramfs":     mount("none", "ramfs", 0, ""),
	"mount-proc":      mount("none", "proc", 0, ""),
	"mount-hugetlbfs": mount("none", "hugetlbfs", 0, ""),
	"mount-bpf":       mount("none", "bpf", 0, ""),
	"mount-bind":      mount("/tree", "", unix.MS_BIND, ""),
	"mount-volume":    mountVolume,
	"mount-overlay":   overlay,
	"message-queue-left": func() (func() error, error) {
		name := []byte("hostile\x00")
		fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, pointer(name), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
		if errno != 0 {
			return nil, errno
		}
		return nil, unix.Close(int(fd))
	},
	"mount-fuse":    mountFuse,
	"overmounted":   overmounted,
	"detached":      detached,
	"message-queue": messageQueue,
	"message-queue-unlinked": func() (func() error, error) {
		release, err := messageQueue()
		if err != nil {
			return nil, err
		}
		name := []byte("hostile\x00")
		_, _, errno := unix.Syscall(unix.SYS_MQ_UNLINK, pointer(name), 0, 0)
		if errno != 0 {
			return nil, errno
		}
		return release, nil
	},
}

const mountPoint = "/mounted"

func mount(source, kind string, flags uintptr, data string) hold {
	return func() (func() error, error) {
		if err := errors.Join(os.MkdirAll("/tree", 0o755), os.MkdirAll(mountPoint, 0o755)); err != nil {
			return nil, err
		}
		if err := unix.Mount(source, mountPoint, kind, flags, data); err != nil {
			return nil, fmt.Errorf("mount %s: %w", kind, err)
		}
		return func() error { return unix.Unmount(mountPoint, 0) }, nil
	}
}

// mountVolume mounts a folder of a volume of the pod.
func mountVolume() (func() error, error) {
	if err := os.MkdirAll("/volume/inside", 0o755); err != nil {
		return nil, err
	}
	return mount("/volume/inside", "", unix.MS_BIND, "")()
}

func overlay() (func() error, error) {
	if _, err := mount("none", "tmpfs", 0, "")(); err != nil {
		return nil, err
	}
	for _, dir := range []string{"lower", "upper", "work", "all"} {
		if err := os.Mkdir(mountPoint+"/"+dir, 0o755); err != nil {
			return nil, err
		}
	}
	err := unix.Mount("overlay", mountPoint+"/all", "overlay", 0, "lowerdir=/mounted/lower,upperdir=/mounted/upper,workdir=/mounted/work")
	return func() error { return unix.Unmount(mountPoint+"/all", 0) }, err
}

// mountFuse mounts a FUSE file system and closes its device, so that it stays without a server and nothing else is held.
func mountFuse() (func() error, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	release, err := mount("hostile", "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))()
	return release, errors.Join(err, unix.Close(fd))
}

// overmounted holds a file that a later mount hides.
func overmounted() (func() error, error) {
	if err := os.MkdirAll(mountPoint, 0o755); err != nil {
		return nil, err
	}
	fd, err := unix.Open(mountPoint+"/file", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := mount("none", "tmpfs", 0, "")(); err != nil {
		return nil, err
	}
	return closing(fd), nil
}

// detached holds a file of a file system that is unmounted.
func detached() (func() error, error) {
	if _, err := mount("none", "tmpfs", 0, "")(); err != nil {
		return nil, err
	}
	fd, err := unix.Open(mountPoint+"/file", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return closing(fd), unix.Unmount(mountPoint, unix.MNT_DETACH)
}

func messageQueue() (func() error, error) {
	name := []byte("hostile\x00")
	fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, pointer(name), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
	if errno != 0 {
		return nil, errno
	}
	return func() error {
		_, _, errno := unix.Syscall(unix.SYS_MQ_UNLINK, pointer(name), 0, 0)
		if errno != 0 {
			return errno
		}
		return unix.Close(int(fd))
	}, nil
}
