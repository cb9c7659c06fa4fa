package criu

// Table are the refusals that are known, the special ones before the general ones. The words are those of CRIU 4.2
// (https://github.com/checkpoint-restore/criu). Whoever adds an entry adds a line from a real log to the test, and has the test write the
// table in docs/operations.md (go test ./internal/criu -update).
var Table = append(append(append(append([]Entry{}, resources...), dumpFiles...), dumpProcesses...), restores...)

// What the node or the pod has too little of.
var resources = []Entry{{
	Phase: Restore, Says: []string{"Can't create inotify for"},
	Means: "The node has no inotify instance left for this user.",
	Do:    "Raise fs.inotify.max_user_instances on the nodes.",
}, {
	Phase: Restore, Says: []string{"Can't add watch for"},
	Means: "The node has no inotify watch left for this user, or a watched file is not there any more.",
	Do:    "Raise fs.inotify.max_user_watches on the nodes; keep the files of volumes as they were.",
}, {
	Phase: Dump, Says: []string{"No space left on device"},
	Means: "The disk below /var/lib/checkpoint of the node became full.",
	Do:    "Give it more room, or bound the pods with memverge.ai/checkpoint-volume-size.",
}, {
	Phase: Restore, Says: []string{"No space left on device"},
	Means: "A disk or an emptyDir of the new pod is full.",
	Do:    "Give the node's disk more room, or the emptyDir a larger sizeLimit.",
}, {
	Phase: Restore, Says: []string{"Can't fork for …Resource temporarily unavailable", "Unable to create a thread: -11"},
	Means: "The new pod may have fewer processes than were captured.",
	Do:    "Raise the limit of processes (podPidsLimit of kubelet, or the user's on the node).",
}, {
	Phase: Restore, Says: []string{"Cannot allocate memory", "Unable to reserve memory", "Can't restore … mapping with", "killed by signal 9"},
	Means: "There was not enough memory for what was captured.",
	Do: "Give the new pod at least the memory limit of the former one, and the node room for it. A program with very many mappings needs a higher " +
		"vm.max_map_count.",
}, {
	Phase: Dump, Says: []string{"Cannot allocate memory"},
	Means: "The node had not enough memory for the dump itself.",
	Do:    "Leave more of the node's memory unreserved.",
}, {
	Says:  []string{"executable file not found", "criu: no such file or directory", "criu version"},
	Means: "The node has no CRIU that the runtime can use.",
	Do:    "Look at the log of the checkpoint-agent on that node, which installs it below /opt/checkpoint.",
}}

// What a process has open, and CRIU cannot write down.
var dumpFiles = []Entry{{
	Phase: Dump, Says: []string{"[io_uring]"},
	Means: "The program uses io_uring, which cannot be captured.",
	Do: "Remove the annotation memverge.ai/checkpoint-io-uring, which lets it: without io_uring programs take their fallback. Or switch it off in the " +
		"program's own settings.",
}, {
	Phase: Dump, Says: []string{"[userfaultfd]"},
	Means: "The program handles its own page faults (userfaultfd), which cannot be captured.",
	Do:    "Switch off what uses it, as the live migration of a virtual machine or a debugger, or take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"[perf_event]"},
	Means: "The program counts events of the processor (perf), which cannot be captured.",
	Do:    "End the profiler, or switch off the profiling in the program.",
}, {
	Phase: Dump, Says: []string{"anon_inode:bpf", "anon_inode:[bpf"},
	Means: "The program holds BPF programs or maps, which belong to the node's kernel.",
	Do:    "Take the label off the pod: agents of observability and networks start quickly enough without their memory.",
}, {
	Phase: Dump, Says: []string{"(chr 195:", "(chr 226:", "nvidia", "/dev/dri", "/dev/kfd"},
	Means: "The program has a GPU open, which cannot be captured yet.",
	Do:    "Have the program release the GPU before it is stopped, or take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"(chr 10:232)", "anon_inode:kvm"},
	Means: "The program runs a virtual machine (KVM), which cannot be captured.",
	Do:    "Take the label off the pod, and use the virtual machine's own way to save its state.",
}, {
	Phase: Dump, Says: []string{"Can't dump file … (chr "},
	Means: "The program has a device open that CRIU does not know.",
	Do:    "Close it before the pod is stopped, or take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"Can't lookup mount="},
	Means: "A process has a file open that lies outside of the container, as one it was given by whoever started it, or one on a mount that is gone.",
	Do:    "Close it; start background processes in the container itself, or with all of their descriptors redirected.",
}, {
	Phase: Dump, Says: []string{"Open files on overmounted mounts"},
	Means: "A process has a file open on a mount that was hidden by a later one at the same place.",
	Do:    "Do not mount over a folder that is in use.",
}, {
	Phase: Dump, Says: []string{"Can't dump ghost file"},
	Means: "A deleted file that is still open is larger than what is captured: 512 MiB, or the ghost-limit that was asked for.",
	Do:    "Keep such files in an emptyDir without deleting them; what is in an emptyDir is captured whatever its size.",
}, {
	Phase: Dump, Says: []string{"Can't create link remap for", "Can't link remap to"},
	Means: "A file that is open was deleted, and has another name on a file system that cannot be written.",
	Do:    "Have the program write such files into an emptyDir.",
}, {
	Phase: Dump, Says: []string{"Unsupported proto 262", "For Go programs, consider using"},
	Means: "The program has a multipath TCP socket, which cannot be captured.",
	Do:    "Set net.mptcp.enabled=0 on the nodes; for Go programs GODEBUG=multipathtcp=0 does.",
}, {
	Phase: Dump, Says: []string{"Unsupported proto ", "Can't dump … inet socket", "Unknown socket collected", "Unknown pair family", "are not collected"},
	Means: "The program has a socket of a kind that CRIU does not know; it knows TCP, UDP, raw, packet, netlink and unix sockets.",
	Do:    "Close it before the pod is stopped, or take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"In-flight connection (l)"},
	Means: "Somebody was connecting to the program, and it had not accepted the connection yet.",
	Do:    "Nothing: it depends on the moment. A program that is often too busy to accept needs a shorter backlog.",
}, {
	Phase: Dump, Says: []string{"Unknown inet socket", "Socket state … obtained but expected"},
	Means: "A TCP connection inside the pod was in an unexpected state.",
	Do:    "Nothing: it depends on the moment. If it happens often, please report it with the log's end.",
}, {
	Phase: Dump, Says: []string{"External socket is used", "Can't dump half of stream unix connection", "Can't dump name-less external socket"},
	Means: "The program is connected by a unix socket to a process outside of the container, as a daemon of the node or another container.",
	Do:    "Close the connection before the pod is stopped, do not mount sockets of the node, or select both containers.",
}, {
	Phase: Dump, Says: []string{"In-flight connection on", "Dangling connection", "in-flight socket"},
	Means: "A connection of a unix socket had not been accepted yet, and whoever made it is gone, or has sent data.",
	Do:    "Nothing if it was a moment; a program that does not accept connections for long has to do that, or to close the socket on which it listens.",
}, {
	Phase: Dump, Says: []string{"The socket has data to read", "netlink socket … has more than 32 groups", "bound to groups but not to portid"},
	Means: "The program listens to the kernel (netlink) in a way that cannot be captured: with messages that it has not read, or in too many groups.",
	Do:    "If it is for the messages, the next capture may succeed; else take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"Diag module missing"},
	Means: "The node's kernel lacks a module that tells of open sockets.",
	Do:    "Load inet_diag, tcp_diag, udp_diag, unix_diag, netlink_diag and af_packet_diag on the nodes.",
}, {
	Phase: Dump, Says: []string{"socket from an external network namespace"},
	Means: "The program has a socket of another network than its pod's.",
	Do:    "Close it, or take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"Unresolved lock found", "Some file locks are hold"},
	Means: "A file lock is shared with a process that is not captured.",
	Do:    "Do not lock files of a volume together with processes outside of the container.",
}, {
	Phase: Dump, Says: []string{"Found dangling tty", "Found slave peer index", "ctty inheritance detected"},
	Means: "A process uses a terminal whose other end is outside of the container, as one that kubectl exec -it left behind.",
	Do:    "End it, or start such processes with setsid and with their inputs and outputs in files.",
}, {
	Phase: Dump, Says: []string{"Can't find suitable path for handle", "Can't dump that handle"},
	Means: "The program watches a file by inotify or fanotify that is deleted or cannot be found by its number.",
	Do:    "Have it watch folders of an emptyDir or of a volume, and drop watches of deleted files.",
}, {
	Phase: Dump, Says: []string{"pidfd pid"},
	Means: "The program holds a descriptor of a process outside of the container.",
	Do:    "Close it, or take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"The packetized mode for pipes"},
	Means: "The program has a pipe in packet mode (O_DIRECT), which cannot be captured.",
	Do:    "Have it use a socketpair of type SOCK_SEQPACKET instead, or take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"Can't dump file … of that type", "Unknown shit"},
	Means: "The program has something open that CRIU does not know; the brackets say what.",
	Do:    "Switch off the feature of the program that opens it, or take the label off the pod.",
}}

// What a process is or has mapped, and where it runs.
var dumpProcesses = []Entry{{
	Phase: Dump, Says: []string{"Can't dump nested", "Nested mount namespaces", "Can't dump a pid namespace without", "Can't find mount namespace"},
	Means: "There are namespaces inside the container: a container in the container, or a program's own sandbox.",
	Do:    "Switch the sandbox off (browsers: --no-sandbox), or take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"is a fuse mount but not external"},
	Means: "A FUSE file system is mounted inside the container.",
	Do:    "Mount it by a CSI volume, which belongs to the pod and is not captured.",
}, {
	Phase: Dump, Says: []string{"doesn't have a proper root mount", "Unable to find suitable mount point for s_dev"},
	Means: "The container has a mount that was made inside of it, and of which the root is not visible.",
	Do:    "Undo it before the pod is stopped, or have it mounted as a volume.",
}, {
	Phase: Dump, Says: []string{"unreachable sharing"},
	Means: "A mount of the container is shared with the node.",
	Do:    "Remove mountPropagation from the volumeMounts.",
}, {
	Phase: Dump, Says: []string{"unsupported id", "Unable to dump a file system for", "Can't dump tmpfs content"},
	Means: "A file system is mounted inside the container that cannot be captured.",
	Do:    "Have it mounted as a volume, or not at all.",
}, {
	Phase: Dump, Says: []string{"Unsupported mapping found", "Can't handle non-regular mapping", "Strange file mapped"},
	Means: "The program has memory mapped that belongs to a device or to the kernel.",
	Do:    "Switch off the feature that maps it, or take the label off the pod.",
}, {
	Phase: Dump, Says: []string{"Not valid ring", "Failed to check aio rings", "Ring size is not aligned"},
	Means: "The program has requests of Linux AIO in flight.",
	Do:    "The next capture may succeed; databases can be told to use another method (innodb_use_native_aio=0).",
}, {
	Phase: Dump, Says: []string{"outside of its pid namespace"},
	Means: "The session or group of a process is led by one outside of the container.",
	Do:    "Start background processes with setsid.",
}, {
	Phase: Dump, Says: []string{"Unseizable non-zombie", "with a pending SIGTRAP", "task not stopped after seize", "unsupported stop signal"},
	Means: "A process cannot be stopped for the dump, mostly because a debugger holds it (gdb, strace, delve).",
	Do:    "End the debugger before the pod is stopped.",
}, {
	Phase: Dump, Says: []string{"Unable to freeze cgroup", "Task is still running"},
	Means: "A process waits in the kernel and cannot be stopped, mostly for a disk or a network file system that does not answer.",
	Do:    "Look at the storage of the pod's volumes.",
}, {
	Phase: Dump, Says: []string{"Zombies with threads are not supported", "Zombie thread not supported", "Individually stopped threads"},
	Means: "A process has ended its first thread and goes on with others, or has single threads stopped.",
	Do:    "Nothing can be done from outside; take the label off the pod if it is always so.",
}, {
	Phase: Dump, Says: []string{"Can't infect (pid", "Can't inject syscall", "Can't inject memfd", "Can't get rlimit", "Can't create memfd in victim"},
	Means: "CRIU was not allowed to work inside a process.",
	Do:    "The node's root needs CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_SYS_RESOURCE; look for a security module that forbids ptrace.",
}, {
	Phase: Dump, Says: []string{"Can't fetch filter", "Can't collect filter"},
	Means: "The seccomp filter of a process cannot be read.",
	Do:    "The node's kernel needs CONFIG_CHECKPOINT_RESTORE, and CRIU must not run under a seccomp filter itself.",
}, {
	Says:  []string{"Locking network failed", "iptables-restore"},
	Means: "The network of the pod could not be locked.",
	Do:    "Install iptables or nft on the nodes.",
}}

// Why captured processes do not start again.
var restores = []Entry{{
	Phase: Restore, Says: []string{"has bad size", "has bad build-ID", "has bad mode"},
	Means: "A file that the program had open or mapped is not the one it was: the image was rebuilt under the same tag, or the content of a volume changed.",
	Do:    "Name images by their digest or by tags that are never reused, and leave the files of volumes as they were.",
}, {
	Phase: Restore, Says: []string{"Can't open file", "Can't link", "Can't open link remap", "on restore: No such file"},
	Means: "A file that the program had open is not there.",
	Do:    "Keep it on the volume that it was on; what a ConfigMap or Secret no longer has cannot be opened again.",
}, {
	Phase: Restore, Says: []string{"Can't bind inet socket"},
	Means: "An address or port that the program listened on is taken, or the new pod does not have it.",
	Do:    "Containers that are not restored must not listen on the same port; have the program listen on all addresses.",
}, {
	Phase: Restore, Says: []string{"Can't connect inet socket back", "libsoccr", "Connected TCP socket in image"},
	Means: "A TCP connection could not be taken up again.",
	Do:    "Look for network policies or sidecars that filter the traffic inside of the pod.",
}, {
	Phase: Restore, Says: []string{"Can't bind id", "ghost: Can't bind on socket", "External socket found in image"},
	Means: "A unix socket could not be made again.",
	Do:    "Keep the folder of the socket writable, and on an emptyDir rather than on a volume that other pods use.",
}, {
	Phase: Restore, Says: []string{
		"CPU instruction capabilities do not match", "FPU feature required by image", "CPU xfeatures has unsupported bits", "xsave size mismatch",
		"xsave max size mismatch", "CPU capabilities do not match", "killed by signal 4",
	},
	Means: "The processor of this node lacks something that the program used on the former node.",
	Do:    "Have the pods run on nodes with the same processor, by a nodeSelector or node affinity.",
}, {
	Phase: Restore, Says: []string{"Can't fork for …File exists", "do not match expected", "can't write last_pid", "Can't set last_pid"},
	Means: "A process number of the captured program is taken in the new container.",
	Do:    "Remove shareProcessNamespace; if the pod has none, please report it.",
}, {
	Phase: Restore, Says: []string{"Failed to set desired IPC", "Failed to restore shm id", "Failed to restore sem id", "Failed to restore msg id"},
	Means: "A System V object that the program used is there already.",
	Do:    "Another container of the pod must not create System V objects before this one is restored.",
}, {
	Phase: Restore, Says: []string{"can't write lsm profile", "mismatched lsm types", "LSM specified but", "unknown lsm"},
	Means: "The security module of this node differs from that of the former one, or lacks the profile.",
	Do:    "Have AppArmor or SELinux, with the same profiles, on all nodes that the pod may run on.",
}, {
	Phase: Restore, Says: []string{"No mapping for … mountpoint", "Can't restore ext mount", "doesn't have a proper root mount"},
	Means: "The captured container had a mount that the new one does not have.",
	Do:    "Keep the volumeMounts of the pod as they were; a mount that was made inside of the container does not come back.",
}, {
	Phase: Restore, Says: []string{"vdso", "vDSO", "VVAR", "MADV_GUARD_INSTALL", "kernel does only support vmas up to"},
	Means: "The kernel of this node differs too much from that of the former one.",
	Do:    "Have the same kernel version on all nodes that the pod may run on, and an older one nowhere.",
}, {
	Phase: Restore, Says: []string{"rseq"},
	Means: "The kernel of this node lacks restartable sequences, which the program uses.",
	Do:    "Have the same kernel version on all nodes that the pod may run on.",
}, {
	Phase: Restore, Says: []string{
		"Magic doesn't match", "Img trimmed", "Unexpected EOF", "Reached EOF unexpectedly", "Can't read img file", "Can't read pages data", "image corruption",
		"corrupted image", "Image corrupted",
	},
	Means: "The captured state is damaged.",
	Do:    "It cannot be used any more; look at the disk of the node and at the bucket.",
}, {
	Phase: Restore, Says: []string{"Too old image", "Not supported images version", "Missing required plugin", "Image carries unknown"},
	Means: "The state was captured by another version of CRIU.",
	Do:    "Have the same version of the operator on all nodes before pods move.",
}, {
	Phase: Restore, Says: []string{"failed to suspend seccomp", "PR_SET_SECCOMP", "SECCOMP_SET_MODE_FILTER"},
	Means: "The seccomp filters of the program could not be set again.",
	Do:    "The node's kernel needs CONFIG_CHECKPOINT_RESTORE; the pod's seccomp profile has to allow the program's own.",
}, {
	Phase: Restore, Says: []string{
		"Unable to drop capability", "Unable to restore capabilities", "Unable to raise ambient capability", "Can't setgroups", "Unable to set real, effective",
		"Unable to set no_new_privs",
	},
	Means: "The rights that the program had cannot be given to it again.",
	Do:    "Compare the securityContext of the two pods; with a user namespace the pod cannot be restored.",
}, {
	Phase: Restore, Says: []string{"Can't open master pty", "Can't open slave pty", "Can't set tty", "Unable to find a master for"},
	Means: "A terminal of the program could not be made again.",
	Do:    "Keep tty and stdin of the container as they were.",
}, {
	Phase: Restore, Says: []string{"Can't create posix timer", "Unexpected timer id", "kernel don't give them consequently"},
	Means: "A timer of the program could not be made with its former number.",
	Do:    "Please report it with the versions of the kernels of both nodes.",
}, {
	Phase: Restore, Says: []string{"PR_SET_MM", "This process tree can only be restored", "CONFIG_CHECKPOINT_RESTORE"},
	Means: "The kernel of this node cannot restore processes.",
	Do:    "It needs CONFIG_CHECKPOINT_RESTORE.",
}, {
	Phase: Restore, Says: []string{"context deadline exceeded", "signal: killed"},
	Means: "The restore took longer than 90 s, after which the container has to start in another way.",
	Do:    "Look for a slow disk or a busy processor of the node; less memory in the program helps as well.",
}}
