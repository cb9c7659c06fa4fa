package main

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// kernelFeature is a kind of kernel object: a feature of the program tests/images/fidelity. It is expected to continue, or to be lost or refused
// with these words.
type kernelFeature struct{ name, about, expect string }

// kernel are the kernel objects of one container, each in a pod of its own, and all that can be captured in one pod.
func kernel() []Program {
	programs := []Program{kernelProgram(kernelFeature{"all", "all of the following that are expected to continue, but for the large numbers, in one pod", ""})}
	programs[0].Quick = true
	for _, f := range slices.Concat(processFeatures(), timeFeatures(), fileFeatures(), talkFeatures(), memoryFeatures(), networkFeatures()) {
		programs = append(programs, kernelProgram(f))
	}
	return programs
}

// processFeatures are threads, locks, and what belongs to a process.
func processFeatures() []kernelFeature {
	return []kernelFeature{
		{"threads", "threads with memory, name, signal mask, alternate stack and number of their own", ""},
		{"rseq", "restartable sequences", ""},
		{"locks", "mutexes, condition and read-write lock, held and waited for, between threads and processes", ""},
		{"robust-locks", "robust mutexes", ""},
		{"waits", "sleeps and waits with a time-out", ""},
		{"blocked-calls", "reads and waits without one", ""},
		{"process-tree", "children, grandchildren, groups, sessions", ""},
		{"dead-leader", "a session whose leader has ended", ""},
		{"orphan", "an orphan that is a child of process 1", ""},
		{"subreaper", "an orphan that is a child of a subreaper; it leads a session of its own then", ""},
		{"zombies", "children that have ended and were not waited for", ""},
		{"stopped-child", "a child that was stopped", ""},
		{"credentials", "users, groups and capabilities", ""},
		{"prctl", "name, signal of the parent's death, no_new_privs, dumpable, …", ""},
		{"timer-slack", "the slack of timers is that of a new process", "it is timer slack 50000"},
		{"limits", "rlimits", ""},
		{"scheduling", "nice value and scheduling policy", ""},
		{"affinity", "processor affinity is that of the new container", "it is processors"},
		{"io-priority", "the priority of input and output is that of a new process", "it is I/O priority 0"},
		{"oom-score", "oom_score_adj", ""},
		{"personality", "the personality is that of a new process", "it is personality 0"},
		{"words", "arguments, environment, program file", ""},
	}
}

// timeFeatures are signals, timers and clocks.
func timeFeatures() []kernelFeature {
	return []kernelFeature{
		{"pending-signals", "signals that wait for a process or a thread, with their values", ""},
		{"signal-actions", "handlers, ignored signals, alternate stack", ""},
		{"in-handler", "a handler that is being run", ""},
		{"interval-timers", "setitimer", ""},
		{"alarm", "what is left of an alarm", ""},
		{"timers", "timer_create on four clocks and for a thread", ""},
		{"timerfd", "timers that are descriptors", ""},
		{"clocks", "monotonic clocks neither jump nor go back", ""},
		{"processor-time", "the processor time that was used begins at 0", "went back"},
	}
}

// fileFeatures are open files, folders and locks on files.
func fileFeatures() []kernelFeature {
	return []kernelFeature{
		{"open-files", "offsets, flags and owners of open files", ""},
		{"changed-names", "open files that were deleted, renamed or replaced", ""},
		{"second-name", "an open file of which one name was deleted and another is left", ""},
		{"unnamed-file", "an O_TMPFILE", ""},
		{"deleted-folder", "an open folder that was deleted", ""},
		{"file-in-deleted-folder", "an open file in a folder that was deleted, too", ""},
		{"deleted-folder-and-file", "an open folder that was deleted together with an open file in it", "was not restored"},
		{"working-folder", "working folder and umask", ""},
		{"deleted-working-folder", "a working folder that was deleted", ""},
		{"devices", "/dev/null, /dev/zero, /dev/urandom", ""},
		{"folders", "open folders, half-read folders, O_PATH", ""},
		{"direct-file", "O_DIRECT", ""},
		{"proc-files", "open files of /proc", ""},
		{"proc-folders", "open folders of /proc, of a process, too", ""},
		{"cgroup-files", "open files of the control group", ""},
		{"file-locks", "flock, POSIX and OFD locks", ""},
		{"lease", "a lease of a file", ""},
	}
}

// talkFeatures are pipes, Unix sockets, and descriptors that tell of events.
func talkFeatures() []kernelFeature {
	return []kernelFeature{
		{"pipes", "pipes with data and sizes, named pipes", ""},
		{"packet-pipe", "a pipe of packets (O_DIRECT)", "packetized mode"},
		{"socket-pairs", "pairs of Unix sockets with data", ""},
		{"unix-services", "Unix listeners by path and abstract, with connections that wait", ""},
		{"unix-unaccepted-data", "a Unix connection that was not accepted yet and has brought data", "Non-empty write queue on an in-flight socket"},
		{"unix-unaccepted-closed", "a Unix connection that was closed before it was accepted", "Found a closed in-flight socket"},
		{"unix-datagrams", "Unix datagrams, and a connection to a removed name", ""},
		{"passed-descriptors", "a descriptor that was sent and not received", ""},
		{"passed-credentials", "a message with the credentials of its sender that was not received", "Control messages in queue"},
		{"eventfd", "eventfd with a count", ""},
		{"eventfd-semaphore", "eventfd that is a semaphore becomes a counter", "the semaphore gives 3"},
		{"epoll", "epoll, nested", ""},
		{"epoll-copied", "epoll whose descriptor was copied and closed", ""},
		{"signalfd", "signalfd with signals that wait", ""},
		{"pidfd", "pidfd", ""},
		{"inotify", "inotify on a file and a folder", ""},
		{"inotify-unread", "an inotify event that was not read is lost", "is gone"},
		{"fanotify", "fanotify", ""},
	}
}

// memoryFeatures are memory and System V and POSIX objects.
func memoryFeatures() []kernelFeature {
	return []kernelFeature{
		{"private-memory", "heap, zeroes, reserved memory, holes, large pages", ""},
		{"shared-memory", "memory shared with a child, anonymous and of a file", ""},
		{"memfd", "memfd with seals and mapping", ""},
		{"file-mappings", "private and shared mappings of files, also of deleted ones", ""},
		{"protections", "mprotect, madvise, mlock of parts", ""},
		{"sysv-memory", "System V shared memory", ""},
		{"sysv-removed", "System V shared memory that was removed and is attached is no longer removed", "it is not removed any more"},
		{"sysv-semaphores", "System V semaphores", ""},
		{"sysv-undo", "System V semaphores with SEM_UNDO", ""},
		{"sysv-queue", "System V message queues", ""},
		{"posix-memory", "shm_open", ""},
		{"posix-semaphore", "sem_open", ""},
		{"posix-queue", "mq_open", "capture failed"},
	}
}

// networkFeatures are sockets, terminals, and large numbers of things.
func networkFeatures() []kernelFeature {
	return []kernelFeature{
		{"listeners", "TCP listeners on all addresses, IPv6, loopback and the pod's own address", ""},
		{"unaccepted-tcp", "a TCP connection that was not accepted yet is reset", ""},
		{"udp", "UDP on all addresses and on the pod's own, with and without a peer", ""},
		{"raw-socket", "a raw socket", ""},
		{"ping-socket", "a ping socket", ""},
		{"packet-socket", "a packet socket", ""},
		{"netlink", "a netlink socket", ""},
		{"tcp-loopback", "TCP over loopback with data on the way in both directions", ""},
		{"tcp-own-address", "TCP over the pod's own address", ""},
		{"tcp-half-closed", "TCP of which one direction has ended", ""},
		{"tcp-options", "options of TCP sockets", ""},
		{"tcp-rare-options", "TCP_USER_TIMEOUT, TCP_SYNCNT, TCP_DEFER_ACCEPT, SO_ZEROCOPY and SO_TIMESTAMP are lost", "TCP_USER_TIMEOUT is 0"},
		{"tcp-outside", "TCP to the outside is reset at once, and can be opened again", ""},
		{"terminal", "a pseudo terminal with session and foreground job", ""},
		{"terminal-both-ends", "a terminal both of whose ends a process outside its session has", "the foreground is"},
		{"terminal-job", "a job asks a terminal for the foreground; only the leader of the session is told", "the foreground is -1"},
		{"terminal-unread", "a pseudo terminal with what nobody has read", ""},
		{"many-threads", "1,000 threads", ""},
		{"many-children", "500 children", ""},
		{"many-descriptors", "2,000 descriptors", ""},
		{"many-mappings", "20,000 mappings", ""},
	}
}

// kernelProgram is a pod that runs one feature, or "all".
func kernelProgram(f kernelFeature) Program {
	return Program{
		Name: "kernel-" + f.name, About: f.about, Expect: f.expect, Image: cProgram("fidelity"),
		Spec: func(image string) corev1.PodSpec {
			spec := onePod(image, f.name)
			if f.name == "fanotify" {
				spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}}}
			}
			return spec
		},
		Check: func(ctx context.Context, pod *Pod) error {
			_, err := pod.Get(ctx, 8080, "/check")
			return err
		},
	}
}
