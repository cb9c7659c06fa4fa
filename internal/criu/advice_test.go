package criu

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lines are errors as CRIU 4.2 writes them, and a piece of what is to be said of each.
var lines = map[Phase]map[string]string{
	Dump: {
		"Error (criu/proc_parse.c:502): Unknown shit 600 (anon_inode:[io_uring])":                                                   "checkpoint-io-uring",
		"Error (criu/files-ext.c:94): Can't dump file 4 of that type [600] (anon anon_inode:[userfaultfd])":                         "userfaultfd",
		"Error (criu/files-ext.c:94): Can't dump file 4 of that type [600] (anon anon_inode:[perf_event])":                          "profiler",
		"Error (criu/files-ext.c:94): Can't dump file 5 of that type [600] (anon anon_inode:bpf-prog)":                              "BPF",
		"Error (criu/files-ext.c:94): Can't dump file 7 of that type [20666] (chr 195:255)":                                         "GPU",
		"Error (criu/files-ext.c:94): Can't dump file 3 of that type [20666] (chr 10:232)":                                          "KVM",
		"Error (criu/files-ext.c:94): Can't dump file 3 of that type [20660] (chr 10:200)":                                          "a device",
		"Error (criu/files-ext.c:94): Can't dump file 3 of that type [600] (anon anon_inode:[landlock-ruleset])":                    "brackets",
		"Error (criu/files-reg.c:1790): Can't lookup mount=255 for fd=0 path=/dev/null":                                             "outside of the container",
		"Error (criu/files-reg.c:1796): Open files on overmounted mounts are not supported yet; mount=31 fd=4 path=/data/x":         "mount over",
		"Error (criu/files-reg.c:1031): Can't dump ghost file /tmp/spill of 1073741824 size, increase limit":                        "512 MiB",
		"Error (criu/files-reg.c:1122): Can't create link remap for /var/lib/x. Use link-remap option.":                             "another name",
		"Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 2f0c1":                                                  "multipath",
		"Error (criu/sk-inet.c:137): inet: Unsupported proto 132 for socket 2f0c1":                                                  "of a kind",
		"Error (criu/sockets.c:767): BUG! Unknown socket collected (family 40)":                                                     "of a kind",
		"Error (criu/sk-inet.c:185): inet: In-flight connection (l) for 1a2b":                                                       "not accepted",
		"Error (criu/sk-inet.c:208): inet: Unknown inet socket 1a2b state 12":                                                       "unexpected state",
		"Error (criu/sk-unix.c:874): unix: External socket is used. Consider using --ext-unix-sk option.":                           "unix socket",
		"Error (criu/sk-unix.c:881): unix: Can't dump half of stream unix connection. name: (null); peer name: /run/docker.sock":    "unix socket",
		"Error (criu/sk-unix.c:494): unix: In-flight connection on non-listening socket 812":                                        "whoever made it is gone",
		"Error (criu/sk-unix.c:506): unix: Non-empty write queue on an in-flight socket 0x5ab40":                                    "has sent data",
		"Error (criu/sk-unix.c:525): unix: Found a closed in-flight socket to 0x1b":                                                 "whoever made it is gone",
		"Error (criu/sk-netlink.c:77): netlink: The socket has data to read":                                                        "netlink",
		"Error (criu/sockets.c:216): Diag module missing (-2)":                                                                      "unix_diag",
		"Error (criu/file-lock.c:102): Unresolved lock found pid 77 ino 1234":                                                       "file lock",
		"Error (criu/tty.c:1830): tty: Found dangling tty with sid 40 pgid 46 (pts) on peer fd 0.":                                  "setsid",
		"Error (criu/tty.c:2314): tty: ctty inheritance detected sid/pgrp 1, no PTY peer with sid/pgrp needed":                      "terminal",
		"Error (criu/fsnotify.c:263): fsnotify: Can't find suitable path for handle (dev 0x2d ino 0x4c): -2":                        "inotify",
		"Error (criu/pidfd.c:97): pidfd: pidfd pid 812 is not a part of process tree..":                                             "descriptor of a process",
		"Error (criu/pipes.c:490): The packetized mode for pipes is not supported yet":                                              "SOCK_SEQPACKET",
		"Error (criu/namespaces.c:460): Can't dump nested pid namespace for 1220":                                                   "--no-sandbox",
		"Error (criu/filesystems.c:552): mnt: ./mnt is a fuse mount but not external":                                               "CSI",
		"Error (criu/mount.c:753): mnt: 192:./data doesn't have a proper root mount":                                                "made inside",
		"Error (criu/mount-v2.c:198): mnt-v2: Sharing group (25, 0) has unreachable sharing. Try --enable-external-masters.":        "mountPropagation",
		"Error (criu/mount.c:718): mnt: FS mnt ./mnt dev 0x30 root / unsupported id 512":                                            "as a volume",
		"Error (criu/proc_parse.c:760): Unsupported mapping found 00007f354c2e4000-00007f354c2e5000":                                "mapped",
		"Error (criu/pie/parasite.c:712): Not valid ring #0":                                                                        "AIO",
		"Error (criu/cr-dump.c:1681): A session leader of 77(12) is outside of its pid namespace":                                   "setsid",
		"Error (compel/src/lib/infect.c:261): Unseizable non-zombie 1220 found, state t, err -1/10":                                 "debugger",
		"Error (criu/seize.c:635): Unable to freeze cgroup /sys/fs/cgroup/freezer/x (101 x 100ms attempts, timeout: 10s)":           "storage",
		"Error (criu/seize.c:882): Zombies with threads are not supported":                                                          "first thread",
		"Error (criu/cr-dump.c:388): Can't get rlimit 0: Operation not permitted":                                                   "CAP_SYS_RESOURCE",
		"Error (criu/cr-dump.c:1627): Can't infect (pid: 1220) with parasite":                                                       "CAP_SYS_PTRACE",
		"Error (criu/page-xfer.c:263): page-xfer: Unable to spice data: No space left on device":                                    "/var/lib/checkpoint",
		"Error (criu/page-xfer.c:400): page-xfer: Unable to mmap a buffer: Cannot allocate memory":                                  "unreserved",
		"Error (criu/net.c:2700): net: Unable to dump a socket from an external network namespace":                                  "another network",
		"Error (criu/seccomp.c:120): seccomp: Can't fetch filter on tid_real 12 i 0: Permission denied":                             "CONFIG_CHECKPOINT_RESTORE",
		"Error (criu/net.c:3332): net: Locking network failed: iptables-restore returned 1. This may be connected to disabled mark": "iptables",
	},
	Restore: {
		"Error (criu/files-reg.c:2175): File usr/lib/libc.so.6 has bad size 12 (expect 13)":                   "digest",
		"Error (criu/files-reg.c:2153): File usr/bin/app has bad build-ID":                                    "digest",
		"Error (criu/files-reg.c:2353): Can't open file etc/config/a on restore: No such file or directory":   "not there",
		"Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 7): Address already in use":            "port",
		"Error (soccr/soccr.c:529): Can't connect inet socket back: Cannot assign requested address":          "taken up again",
		"Error (criu/fsnotify.c:664): fsnotify: Can't create inotify for 0x00000b: Too many open files":       "max_user_instances",
		"Error (criu/cr-restore.c:1230): Can't fork for 12: File exists":                                      "process number",
		"Error (criu/cr-restore.c:1230): Can't fork for 12: Resource temporarily unavailable":                 "podPidsLimit",
		"Error (criu/arch/x86/cpu.c:297): cpu: CPU capabilities do not match run time":                        "processor",
		"Error (criu/arch/x86/cpu.c:262): cpu: CPU xfeatures has unsupported bits (0x200)":                    "processor",
		"Error (criu/cr-restore.c:1262): 13 killed by signal 4: Illegal instruction":                          "processor",
		"Error (criu/cr-restore.c:1262): 13 killed by signal 9: Killed":                                       "memory limit",
		"Error (criu/mem.c:1363): Unable to reserve memory (1073741824 bytes): Cannot allocate memory":        "memory limit",
		"Error (criu/ipc_ns.c:872): Failed to restore shm id (3 instead of 0)":                                "System V",
		"Error (criu/pie/restorer.c:196): can't write lsm profile -22":                                        "AppArmor",
		"Error (criu/mount.c:3141): mnt: No mapping for 12:/data mountpoint":                                  "volumeMounts",
		"Error (criu/pie/restorer.c:1498): Task had vdso, restorer doesn't":                                   "kernel",
		"Error (criu/image.c:563): Magic doesn't match for pstree.img":                                        "damaged",
		"Error (criu/image.c:89): Not supported images version 3":                                             "another version",
		"Error (criu/cr-restore.c:1764): failed to suspend seccomp, restore will probably fail...":            "seccomp",
		"Error (criu/pie/restorer.c:347): Unable to restore capabilities: -1":                                 "securityContext",
		"Error (criu/tty.c:991): tty: Can't open master pty 2 (index 0)":                                      "tty",
		"runc restore: exit status 1: exec: \"criu\": executable file not found in $PATH":                     "no CRIU",
		"context deadline exceeded (signal: killed)":                                                          "90 s",
		"Error (criu/pie/restorer.c:2080): sys_prctl(PR_SET_MM, PR_SET_MM_MAP) failed with -1":                "CONFIG_CHECKPOINT_RESTORE",
		"Error (criu/sk-unix.c:1640): unix: Can't bind id 0x2a ino 812 addr /run/app.sock: Permission denied": "unix socket",
		"Error (criu/pie/restorer.c:1312): Can't create timers, kernel don't give them consequently":          "timer",
		"Error (criu/cr-restore.c:2000): Unable to create a thread: -11":                                      "fewer processes",
		"Error (criu/fsnotify.c:502): fsnotify: Can't add watch for 0x1 with 0x2: No space left on device":    "max_user_watches",
		"Error (criu/files-reg.c:233): Can't send ghost to image: No space left on device":                    "emptyDir",
		"Error (criu/pie/restorer.c:514): failed sys_rseq(7f35, 20, 0, 53053053) = -22":                       "restartable sequences",
	},
}

func TestEveryRefusalIsExplained(t *testing.T) {
	used := map[string]bool{}
	for phase, want := range lines {
		for line, piece := range want {
			got := Advise(phase, line)
			if !strings.Contains(got, piece) {
				t.Errorf("%s: %s\nit says %q, which lacks %q", phase, line, got, piece)
			}
			used[got] = true
		}
	}
	for _, entry := range Table {
		if text := entry.Means + " " + entry.Do; !used[text] {
			t.Errorf("no line of the test has: %s", entry.Says[0])
		}
		if !strings.HasSuffix(entry.Means, ".") || !strings.HasSuffix(entry.Do, ".") || len(entry.Means)+len(entry.Do) > 360 {
			t.Errorf("%v: %d characters, %q, %q", entry.Says, len(entry.Means)+len(entry.Do), entry.Means, entry.Do)
		}
	}
}

func TestTheFirstLineThatIsKnownCounts(t *testing.T) {
	advice := Advise(Dump, "Error (criu/cr-dump.c:1545): Dump files (pid: 12) failed with -1", "Error (criu/x.c:1): (anon_inode:[io_uring])")
	if !strings.Contains(advice, "io_uring") {
		t.Errorf("it says %q", advice)
	}
	if advice := Advise(Restore, "Error (criu/x.c:1): (anon_inode:[io_uring])"); advice != "" {
		t.Errorf("of a restore it says %q", advice)
	}
	if advice := Advise(Dump, "Error (criu/x.c:1): never seen"); advice != "" {
		t.Errorf("of something new it says %q", advice)
	}
}

func TestErrorLines(t *testing.T) {
	const log = `(00.000079) Error (criu/rlimit.c:20): Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.066747) 1220 fdinfo 0: pos:                0 flags:           100000/0
(00.066766) Error (criu/files-reg.c:1790): Can't lookup mount=255 for fd=0 path=/dev/null
(00.066804) Error (criu/cr-dump.c:1545): Dump files (pid: 1220) failed with -1
pie: 31: Error (criu/pie/x.c:5): third
(00.067532)      1: Error (criu/cr-dump.c:1975): Dumping FAILED.
`
	for most, want := range map[int][]string{
		1: {"Error (criu/files-reg.c:1790): Can't lookup mount=255 for fd=0 path=/dev/null"},
		2: {"Error (criu/files-reg.c:1790): Can't lookup mount=255 for fd=0 path=/dev/null", "Error (criu/cr-dump.c:1975): Dumping FAILED."},
		9: {
			"Error (criu/files-reg.c:1790): Can't lookup mount=255 for fd=0 path=/dev/null", "Error (criu/cr-dump.c:1545): Dump files (pid: 1220) failed with -1",
			"Error (criu/pie/x.c:5): third", "Error (criu/cr-dump.c:1975): Dumping FAILED.",
		},
	} {
		if diff := cmp.Diff(want, ErrorLines(strings.NewReader(log), most)); diff != "" {
			t.Errorf("%d: (-want +got)\n%s", most, diff)
		}
	}
}

var update = flag.Bool("update", false, "write the table into docs/operations.md")

// The table in the documentation stands between these two lines.
const begin, end = "<!-- criu -->\n", "<!-- /criu -->\n"

func TestTheTableIsInTheDocumentation(t *testing.T) {
	const path = "../../docs/operations.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := bytes.Cut(page, []byte(begin))
	old, tail, foundEnd := bytes.Cut(rest, []byte(end))
	if !found || !foundEnd {
		t.Fatalf("%s lacks %q or %q", path, begin, end)
	}
	want := markdown()
	if *update {
		if err := os.WriteFile(path, []byte(string(head)+begin+want+end+string(tail)), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(old)); diff != "" {
		t.Errorf("go test ./internal/criu -update mends this (-want +got)\n%s", diff)
	}
}

// markdown is the table for people.
func markdown() string {
	var text strings.Builder
	text.WriteString("| when | CRIU says | what is behind it | what to do |\n|---|---|---|---|\n")
	for _, entry := range Table {
		phase := string(entry.Phase)
		if phase == "" {
			phase = "both"
		}
		says := make([]string, len(entry.Says))
		for i, piece := range entry.Says {
			says[i] = "`" + strings.ReplaceAll(strings.TrimSpace(piece), "|", `\|`) + "`"
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", phase, strings.Join(says, ", "), entry.Means, entry.Do)
	}
	return text.String()
}
