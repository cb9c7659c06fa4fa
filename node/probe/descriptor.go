package probe

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// anonymous are the kinds of descriptors without a file that CRIU dumps (criu/files.c, dump_one_file).
var anonymous = map[string]bool{
	"[eventfd]": true, "[eventpoll]": true, "[fanotify]": true, "[signalfd]": true, "[timerfd]": true, "[pidfd]": true,
}

// pathless are files that have a name which is no path, and that CRIU dumps all the same.
var pathless = []string{"/memfd:", "/dev/zero (deleted)", "/SYSV", "/anon_hugepage", "/[aio]", "/ (deleted)"}

// descriptors looks at all descriptors of a process.
func (l *look) descriptors(p *process) error {
	for _, name := range namesIn(l.path(p.pid, "fd")) {
		link, err := os.Readlink(l.path(p.pid, "fd/"+name))
		if isGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		l.report.Descriptors++
		switch {
		case strings.HasPrefix(link, "anon_inode:"):
			l.anonymous(p, name, strings.TrimPrefix(link, "anon_inode:"))
		case strings.HasPrefix(link, "socket:"):
			l.socket(p, name, link)
		case strings.HasPrefix(link, "pidfd:"):
			l.anonymous(p, name, "[pidfd]")
		case strings.HasPrefix(link, "pipe:"):
			if l.flags(p, name)&unix.O_DIRECT != 0 {
				l.add(p, Finding{Reason: keys.UnprotectedDescriptor, What: "holds a pipe of packets (O_DIRECT), descriptor " + name,
					Advice: "use a socket pair of the type SOCK_SEQPACKET, or a plain pipe"})
			}
		case strings.HasPrefix(link, "/"):
			l.file(p, name, link)
		}
	}
	return nil
}

// anonymous looks at a descriptor without a file.
func (l *look) anonymous(p *process, name, kind string) {
	switch {
	case kind == "[pidfd]" && l.flags(p, name)&unix.PIDFD_THREAD != 0:
		l.add(p, Finding{Reason: keys.UnprotectedDescriptor, What: "holds a pidfd of a thread (PIDFD_THREAD), descriptor " + name,
			Advice: "use a pidfd of the process"})
	case kind == "[eventfd]" && l.isSemaphore(p, name):
		l.add(p, Finding{Reason: keys.CheckpointableChanged, What: "holds a semaphore (EFD_SEMAPHORE), which comes back as a counter, descriptor " + name,
			Advice: "use a pipe or a semaphore in shared memory, or have the program make a new one"})
	case kind == "inotify", anonymous[kind]:
	case kind == "[io_uring]":
		l.add(p, Finding{Reason: keys.UnprotectedIOUring, What: "uses io_uring, descriptor " + name,
			Advice: "take the annotation " + keys.IOUring + " away, so that programs fall back to other calls"})
	default:
		l.add(p, Finding{Reason: keys.UnprotectedDescriptor, What: fmt.Sprintf("holds %s, descriptor %s", nameOf(kind), name), Advice: adviceFor(kind)})
	}
}

// kinds are descriptors that CRIU refuses, by how their names begin.
var kinds = []struct{ prefix, name, advice string }{
	{"[userfaultfd]", "userfaultfd", "have it close that, or switch off what handles page faults in the program"},
	{"[perf_event]", "a counter of perf", "end the profiler"},
	{"bpf", "an object of BPF", "load BPF programs from another pod"},
	{"[landlock-ruleset]", "a ruleset of Landlock", "close it when it is in force"},
	{"seccomp notify", "the listener of a seccomp filter", "run the supervisor in another container"},
	{"kvm", "a virtual machine", "do not run virtual machines in a captured container"},
	{"[fscontext]", "a file system that is about to be mounted", "close it"},
}

func nameOf(kind string) string {
	for _, k := range kinds {
		if strings.HasPrefix(kind, k.prefix) {
			return k.name
		}
	}
	return strings.Trim(kind, "[]")
}

func adviceFor(kind string) string {
	for _, k := range kinds {
		if strings.HasPrefix(kind, k.prefix) {
			return k.advice
		}
	}
	return "have the program close it"
}

// isSemaphore tells whether an eventfd was made with EFD_SEMAPHORE, of which CRIU does not know (criu/eventfd.c). Kernels before 6.5 do not say.
func (l *look) isSemaphore(p *process, name string) bool {
	text, err := l.read(p.pid, "fdinfo/"+name)
	return err == nil && strings.Contains(text, "eventfd-semaphore: 1\n")
}

// flags are those with which a descriptor was opened.
func (l *look) flags(p *process, name string) int64 {
	text, err := l.read(p.pid, "fdinfo/"+name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, "flags:"); found {
			flags, _ := strconv.ParseInt(strings.TrimSpace(value), 8, 64)
			return flags
		}
	}
	return 0
}

// file looks at a descriptor with a path. It asks for what the kernel has in its caches, so that no dead server of a network file system holds it up.
func (l *look) file(p *process, name, link string) {
	if strings.HasPrefix(link, "/secretmem") {
		l.add(p, Finding{Reason: keys.UnprotectedDescriptor, What: "holds secret memory (memfd_secret), descriptor " + name,
			Advice: "switch that off in the program"})
		return
	}
	for _, prefix := range pathless {
		if strings.HasPrefix(link, prefix) {
			return
		}
	}
	var stat unix.Statx_t
	const wanted = unix.STATX_TYPE | unix.STATX_NLINK | unix.STATX_BLOCKS | unix.STATX_MNT_ID
	if unix.Statx(unix.AT_FDCWD, l.path(p.pid, "fd/"+name), unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, wanted, &stat) != nil {
		return // gone
	}
	switch kind := stat.Mode & unix.S_IFMT; {
	case kind == unix.S_IFBLK, kind == unix.S_IFCHR && !canDumpDevice(stat.Rdev_major, stat.Rdev_minor):
		l.add(p, Finding{Reason: keys.UnprotectedDeviceInUse, What: fmt.Sprintf("has the device %s open, descriptor %s", link, name), Advice: adviceForDevice(link)})
		return
	case kind == unix.S_IFCHR && stat.Rdev_major == miscMajor && stat.Rdev_minor == tunMinor:
		l.tunnel(p, name)
		return
	case kind != unix.S_IFREG && kind != unix.S_IFDIR:
		return
	}
	if stat.Mask&unix.STATX_MNT_ID != 0 && l.misplaced(p, name, link, stat.Mnt_id) {
		return
	}
	if size := int64(stat.Blocks) * 512; l.GhostLimit > 0 && stat.Nlink == 0 && size > l.GhostLimit {
		l.add(p, Finding{Reason: keys.UnprotectedLargeDeletedFile,
			What: fmt.Sprintf("has the deleted file %s open, descriptor %s, which has more than %s",
				strings.TrimSuffix(link, " (deleted)"), name, readable(l.GhostLimit)),
			Advice: "keep large temporary files by their name, or ask for a higher ghost-limit"})
	}
}

// readable is a size in the largest unit of which it is a whole number, from MiB down.
func readable(bytes int64) string {
	switch {
	case bytes%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", bytes>>20)
	case bytes%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// tunnel reports a descriptor of /dev/net/tun with a network device: the device is gone in the new pod.
func (l *look) tunnel(p *process, name string) {
	text, err := l.read(p.pid, "fdinfo/"+name)
	if err != nil {
		return
	}
	for line := range strings.Lines(text) {
		if device, found := strings.CutPrefix(line, "iff:"); found {
			l.add(p, Finding{Reason: keys.UnprotectedDeviceInUse, What: fmt.Sprintf("made the network device %s, descriptor %s", strings.TrimSpace(device), name),
				Advice: "run the tunnel in a container that is not captured"})
			return
		}
	}
}

// misplaced reports a file that cannot be reached by its path: its file system is not mounted in the container, or another one is mounted over it.
func (l *look) misplaced(p *process, name, link string, id uint64) bool {
	t, err := l.tableOf(p)
	if err != nil || len(t.ids) == 0 {
		return false
	}
	if t.ids[id] {
		if t.covers(link) == id {
			return false
		}
		l.add(p, Finding{Reason: keys.UnprotectedDetachedFile, What: fmt.Sprintf("has %s open, descriptor %s, over which another file system is mounted", link, name),
			Advice: "close it, or mount before it is opened", Passing: true})
		return true
	}
	l.detached(p, name, link)
	return true
}

// detached reports a file of a file system that the container does not have mounted.
func (l *look) detached(p *process, name, link string) {
	if isMessageQueue(l.path(p.pid, "fd/"+name)) {
		l.add(p, Finding{Reason: keys.UnprotectedMessageQueue, What: fmt.Sprintf("has the POSIX message queue %s open, descriptor %s", link, name),
			Advice: "use a System V message queue, a pipe or a socket"})
		return
	}
	l.add(p, Finding{Reason: keys.UnprotectedDetachedFile,
		What:   fmt.Sprintf("has %s open, descriptor %s, of a file system that is not mounted in its container", link, name),
		Advice: "close it; it was unmounted, or came from another container", Passing: true})
}

func isMessageQueue(path string) bool {
	const mqueue = 0x19800202
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && stat.Type == mqueue
}

// The numbers of devices (Documentation/admin-guide/devices.txt of Linux).
const (
	memoryMajor, miscMajor = 1, 10
	tunMinor, autofsMinor  = 200, 235
)

// canDumpDevice tells whether CRIU dumps an open character device: null, zero, random and the like, terminals, and a TUN that makes no device.
func canDumpDevice(major, minor uint32) bool {
	switch {
	case major == memoryMajor, major == 4, major == 5, major >= 128 && major <= 143: // terminals
		return true
	case major == miscMajor:
		return minor == tunMinor || minor == autofsMinor
	}
	return false
}

// adviceForDevice names what a device is for.
func adviceForDevice(path string) string {
	for _, d := range []struct{ prefix, advice string }{
		{"/dev/nvidia", "its memory lies on the GPU; have the program save its own state"},
		{"/dev/dri", "its memory lies on the GPU; have the program save its own state"},
		{"/dev/kfd", "its memory lies on the GPU; have the program save its own state"},
		{"/dev/kvm", "do not run virtual machines in a captured container"},
		{"/dev/fuse", "have a CSI driver mount the file system, outside the pod"},
		{"/dev/vfio", "its state lies in the hardware"},
		{"/dev/infiniband", "its connections lie in the hardware; have the program use TCP"},
	} {
		if strings.HasPrefix(path, d.prefix) {
			return d.advice
		}
	}
	return "its state lies in the hardware or the kernel; have the program close it"
}
