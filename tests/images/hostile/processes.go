package main

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// processes are relations between processes, and namespaces of their own.
var processes = map[string]hold{
	"traced":                  traced,
	"dead-leader":             child("exit-leader-child", 0),
	"child-user-namespace":    child("wait-child", unix.CLONE_NEWUSER),
	"child-pid-namespace":     child("wait-child", unix.CLONE_NEWPID),
	"child-mount-namespace":   child("wait-child", unix.CLONE_NEWNS),
	"child-network-namespace": child("wait-child", unix.CLONE_NEWNET),
	"child-ipc-namespace":     child("wait-child", unix.CLONE_NEWIPC),
	"child-uts-namespace":     child("wait-child", unix.CLONE_NEWUTS),
	"child-cgroup-namespace":  child("wait-child", unix.CLONE_NEWCGROUP),
	"child-time-namespace":    timeNamespace,
	"child":                   child("wait-child", 0),
	"chroot":                  chroot,
	"seccomp-notify":          seccompNotify,
	"memory-program":          memoryProgram,
}

func childCommand(verb string) *exec.Cmd {
	command := exec.Command("/proc/self/exe", verb)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

func child(verb string, namespaces uintptr) hold {
	return func() (func() error, error) {
		command := childCommand(verb)
		command.SysProcAttr.Cloneflags = namespaces
		if err := command.Start(); err != nil {
			return nil, err
		}
		return ending(command), nil
	}
}

func ending(command *exec.Cmd) func() error {
	return func() error {
		_ = command.Process.Kill()
		_, err := command.Process.Wait()
		return err
	}
}

// traced has a child that it traces.
func traced() (func() error, error) {
	command := childCommand("wait-child")
	if err := command.Start(); err != nil {
		return nil, err
	}
	if err := unix.PtraceSeize(command.Process.Pid); err != nil {
		return nil, err
	}
	return func() error {
		if err := unix.PtraceInterrupt(command.Process.Pid); err != nil {
			return err
		}
		if _, err := unix.Wait4(command.Process.Pid, nil, unix.WALL, nil); err != nil {
			return err
		}
		return unix.PtraceDetach(command.Process.Pid)
	}, nil
}

// exitLeader ends the thread that leads this process; the others go on.
func exitLeader() {
	started := make(chan bool)
	go func() {
		runtime.LockOSThread()
		close(started)
		time.Sleep(1 << 62)
	}()
	<-started
	_, _, _ = unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
}

// timeNamespace has a child with a time namespace of its own.
func timeNamespace() (func() error, error) {
	type result struct {
		release func() error
		err     error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
			done <- result{nil, err}
			return
		}
		release, err := child("wait-child", 0)()
		done <- result{release, err}
		time.Sleep(1 << 62)
	}()
	r := <-done
	return r.release, r.err
}

func chroot() (func() error, error) {
	if err := os.Mkdir("/inner", 0o755); err != nil && !os.IsExist(err) {
		return nil, err
	}
	command := exec.Command("/proc/self/exe", "wait-child")
	return ending(command), func() error {
		if err := copyFile("/proc/self/exe", "/inner/program"); err != nil {
			return err
		}
		command.Path = "/program"
		command.SysProcAttr = &syscall.SysProcAttr{Chroot: "/inner", Pdeathsig: syscall.SIGKILL}
		command.Dir = "/"
		return command.Start()
	}()
}

// seccompNotify filters this process by a filter that asks this process.
func seccompNotify() (func() error, error) {
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	program := []unix.SockFprog{{Len: 1, Filter: &filter[0]}}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, pointer(program))
	if errno != 0 {
		return nil, errno
	}
	return closing(int(fd)), nil
}

// memoryProgram runs a child whose program is a file in memory.
func memoryProgram() (func() error, error) {
	fd, err := unix.MemfdCreate("program", 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "program")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(data); err != nil {
		return nil, err
	}
	command := exec.Command("/proc/self/fd/3", "wait-child")
	command.ExtraFiles = []*os.File{file}
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return ending(command), command.Start()
}
