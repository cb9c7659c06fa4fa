package main

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// descriptors are objects that a process holds by a number.
var descriptors = map[string]hold{
	"io-uring":          call(unix.SYS_IO_URING_SETUP, 4, pointer(make([]byte, 120))),
	"userfaultfd":       call(unix.SYS_USERFAULTFD, unix.O_CLOEXEC),
	"perf-event":        perfEvent,
	"bpf-map":           call(unix.SYS_BPF, unix.BPF_MAP_CREATE, pointer(words(unix.BPF_MAP_TYPE_ARRAY, 4, 4, 1)), 72),
	"bpf-hash-of-maps":  call(unix.SYS_BPF, unix.BPF_MAP_CREATE, pointer(words(unix.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)), 72),
	"bpf-program":       bpfProgram,
	"landlock-ruleset":  call(unix.SYS_LANDLOCK_CREATE_RULESET, pointer(words(1, 0)), 8, 0),
	"landlocked":        landlocked,
	"secret-memory":     call(unix.SYS_MEMFD_SECRET, 0),
	"filesystem-handle": call(unix.SYS_FSOPEN, pointer([]byte("tmpfs\x00")), 0),
	"pidfd":             call(unix.SYS_PIDFD_OPEN, 1, 0),
	"pidfd-thread":      call(unix.SYS_PIDFD_OPEN, 1, unix.O_EXCL),
	"packet-pipe":       packetPipe,
	"kvm":               device("/dev/kvm"),
	"fuse":              device("/dev/fuse"),
	"tun":               device("/dev/net/tun"),
	"loop":              device("/dev/loop-control"),
	"disk":              device("/dev/loop0"),
	"kmsg":              device("/dev/kmsg"),
	"fanotify":          call(unix.SYS_FANOTIFY_INIT, 0, 0),
	"fanotify-marked":   fanotifyMarked,
	"tun-attached":      tunAttached,
	"network-namespace": device("/proc/self/ns/net"),
	"user-namespace":    device("/proc/self/ns/user"),
	"aio":               aio,
	"eventfd-semaphore": call(unix.SYS_EVENTFD2, 3, unix.EFD_SEMAPHORE|unix.EFD_CLOEXEC),
}

// keep holds what the garbage collector must not take.
var keep []any

func pointer[T any](value []T) uintptr {
	keep = append(keep, value)
	return uintptr(unsafe.Pointer(&value[0]))
}

// words are the beginning of a structure of the kernel, with room for its rest.
func words(values ...uint32) []uint32 { return append(values, make([]uint32, 40)...) }

// call holds the descriptor that a system call returns.
func call(number uintptr, arguments ...uintptr) hold {
	return func() (func() error, error) {
		var a [4]uintptr
		copy(a[:], arguments)
		fd, _, errno := unix.Syscall6(number, a[0], a[1], a[2], a[3], 0, 0)
		if errno != 0 {
			return nil, errno
		}
		return closing(int(fd)), nil
	}
}

func closing(fds ...int) func() error {
	return func() error {
		for _, fd := range fds {
			if err := unix.Close(fd); err != nil {
				return err
			}
		}
		return nil
	}
}

func perfEvent() (func() error, error) {
	attributes := &unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	fd, err := unix.PerfEventOpen(attributes, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return closing(fd), nil
}

// bpfProgram loads "return 0" for sockets.
func bpfProgram() (func() error, error) {
	code := []uint64{0x00000000000000b7, 0x0000000000000095}
	licence := []byte("GPL\x00")
	attributes := make([]uint64, 18)
	attributes[0] = uint64(unix.BPF_PROG_TYPE_SOCKET_FILTER) | uint64(len(code))<<32
	attributes[1], attributes[2] = uint64(pointer(code)), uint64(pointer(licence))
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, pointer(attributes), uintptr(len(attributes)*8))
	if errno != 0 {
		return nil, errno
	}
	return closing(int(fd)), nil
}

// landlocked forbids this thread and its children to write files, and closes the descriptor.
func landlocked() (func() error, error) {
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, pointer(words(1<<12, 0)), 8, 0)
	if errno != 0 {
		return nil, errno
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return nil, errno
	}
	return nil, unix.Close(int(fd))
}

func packetPipe() (func() error, error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_DIRECT|unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	return closing(ends[0], ends[1]), nil
}

func device(path string) hold {
	return func() (func() error, error) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		return closing(fd), nil
	}
}

// aio sets up a ring of asynchronous I/O with a read that does not end.
func aio() (func() error, error) {
	ring := make([]uint64, 1)
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 8, pointer(ring), 0); errno != 0 {
		return nil, errno
	}
	return nil, nil
}

func init() { // in a container, /dev has what the runtime puts there: make the rest
	descriptors["made-device"] = func() (func() error, error) {
		const path, kvm = "/tmp-kvm", 10<<8 | 232
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, kvm); err != nil && !os.IsExist(err) {
			return nil, err
		}
		return device(path)()
	}
}

func fanotifyMarked() (func() error, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return closing(fd), unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN, unix.AT_FDCWD, "/volume")
}

// tunAttached makes a network device.
func tunAttached() (func() error, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq("hostile0")
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return closing(fd), unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
}
