package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// files are those whose name is gone, and watches.
var files = map[string]hold{
	"deleted":           deleted(1 << 20),
	"deleted-large":     deleted(600 << 20),
	"deleted-lower":     deletedLower,
	"deleted-linked":    deletedLinked,
	"deleted-directory": deletedDirectory,
	"replaced":          replaced,
	"mapped-deleted":    mappedDeleted,
	"inotify-file":      inotify("/watched", false),
	"inotify-deleted":   inotify("/watched", true),
	"inotify-lower":     inotify("/hostile", false),
	"inotify-root":      inotify("/", false),
	"inotify-proc":      inotify("/proc/self/status", false),
	"inotify-volume":    inotify("/volume", false),
	"fifo":              fifo,
	"held-lease":        lease,
	"proc-self":         ofProcess(os.Getpid, "", false),
	"proc-self-task":    ofProcess(os.Getpid, "/task", false),
	"proc-self-fd":      ofProcess(os.Getpid, "/fd", false),
	"proc-child":        ofProcess(startChild, "", false),
	"proc-child-file":   ofProcess(startChild, "/stat", false),
	"proc-ended":        ofProcess(startChild, "", true),
	"proc-ended-file":   ofProcess(startChild, "/stat", true),
	"proc-ended-folder": ofProcess(startChild, "/task", true),
}

func create(path string, size int) (int, error) {
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	block := make([]byte, 1<<20)
	for ; size > 0; size -= len(block) {
		if _, err := unix.Write(fd, block); err != nil {
			return -1, err
		}
	}
	return fd, nil
}

func deleted(size int) hold {
	return func() (func() error, error) {
		fd, err := create("/gone", size)
		if err != nil {
			return nil, err
		}
		return closing(fd), os.Remove("/gone")
	}
}

// deletedLower holds a file of the image that was removed. In this image that is the program itself.
func deletedLower() (func() error, error) {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return closing(fd), os.Remove(path)
}

// deletedLinked holds a file whose name is gone while it has another.
func deletedLinked() (func() error, error) {
	fd, err := create("/one", 1)
	if err != nil {
		return nil, err
	}
	return closing(fd), errors.Join(os.Link("/one", "/other"), os.Remove("/one"))
}

func deletedDirectory() (func() error, error) {
	if err := os.Mkdir("/gone-directory", 0o755); err != nil {
		return nil, err
	}
	fd, err := unix.Open("/gone-directory", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return closing(fd), os.Remove("/gone-directory")
}

// replaced holds a file by whose name there is another now, while it has a second name.
func replaced() (func() error, error) {
	fd, err := create("/name", 1)
	if err != nil {
		return nil, err
	}
	return closing(fd), errors.Join(os.Link("/name", "/second"), os.WriteFile("/new", nil, 0o600), os.Rename("/new", "/name"))
}

func mappedDeleted() (func() error, error) {
	fd, err := create("/mapped", 1<<20)
	if err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(fd, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	keep = append(keep, memory)
	return nil, errors.Join(err, unix.Close(fd), os.Remove("/mapped"))
}

// inotify watches path, which it makes where it is not there.
func inotify(path string, thenDelete bool) hold {
	return func() (func() error, error) {
		if _, err := os.Stat(path); err != nil {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return nil, err
			}
		}
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		if err != nil {
			return nil, err
		}
		if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
			return nil, err
		}
		if thenDelete {
			held, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			return closing(fd, held), errors.Join(err, os.Remove(path))
		}
		return closing(fd), nil
	}
}

func fifo() (func() error, error) {
	if err := unix.Mkfifo("/fifo", 0o600); err != nil {
		return nil, err
	}
	fd, err := unix.Open("/fifo", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return closing(fd), nil
}

func lease() (func() error, error) {
	fd, err := create("/leased", 1)
	if err != nil {
		return nil, err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
	return closing(fd), err
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// ofProcess holds a file or folder that /proc has of a process, which has perhaps ended since.
func ofProcess(process func() int, name string, ended bool) hold {
	return func() (func() error, error) {
		pid := process()
		fd, err := unix.Open(fmt.Sprintf("/proc/%d%s", pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		if ended {
			err = unix.Kill(pid, unix.SIGKILL)
			_, waitErr := unix.Wait4(pid, nil, 0, nil)
			err = errors.Join(err, waitErr)
		}
		return closing(fd), err
	}
}

// startChild starts a process that waits, and returns its number; 0 when it cannot.
func startChild() int {
	child, err := os.StartProcess("/proc/self/exe", []string{"hostile", "wait-child"}, &os.ProcAttr{})
	if err != nil {
		return 0
	}
	pid := child.Pid
	_ = child.Release() // which closes the pidfd that comes with it
	return pid
}
