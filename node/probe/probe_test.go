package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// holding names the environment variable by which this test program becomes a process that is looked at.
const holding = "PROBE_HOLDS"

func TestMain(m *testing.M) {
	if what := os.Getenv(holding); what != "" {
		hold(what)
	}
	os.Exit(m.Run())
}

// hold makes what the test wants, says so, and waits for the end of its input.
func hold(what string) {
	var err error
	switch what {
	case "nothing":
		_, err = net.Listen("tcp", "127.0.0.1:0")
	case "packets":
		err = unix.Pipe2(make([]int, 2), unix.O_DIRECT)
	case "fuse":
		_, err = unix.Open("/dev/fuse", unix.O_RDWR, 0)
	case "vsock":
		_, err = unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	case "corked":
		var socket int
		if socket, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0); err == nil {
			err = unix.SetsockoptInt(socket, unix.SOL_UDP, unix.UDP_CORK, 1)
		}
	case "datagrams":
		_, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	case "pidfd of a thread":
		_, err = unix.PidfdOpen(os.Getpid(), unix.O_EXCL)
	case "semaphore":
		_, err = unix.Eventfd(3, unix.EFD_SEMAPHORE)
	case "counter":
		_, err = unix.Eventfd(3, 0)
	case "secret":
		_, _, errno := unix.Syscall(unix.SYS_MEMFD_SECRET, 0, 0, 0)
		if errno != 0 {
			err = errno
		}
	case "deleted":
		var file *os.File
		if file, err = os.CreateTemp("", ""); err == nil {
			_, err = file.Write(make([]byte, 64<<10))
			err = errors.Join(err, os.Remove(file.Name()))
		}
	case "message queue":
		name := []byte("probe-test\x00")
		_, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, addressOf(name), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
		if errno != 0 {
			err = errno
		}
		_, _, _ = unix.Syscall(unix.SYS_MQ_UNLINK, addressOf(name), 0, 0)
	case "unread":
		err = askAndNotRead()
	case "waits to be accepted", "waits with data", "closed before it was accepted", "closed with data":
		err = connectAndNotAccept(strings.HasSuffix(what, "data"), strings.HasPrefix(what, "closed"))
	}
	if err != nil {
		_, _ = os.Stdout.WriteString("cannot: " + err.Error() + "\n")
		os.Exit(0)
	}
	_, _ = os.Stdout.WriteString("holds\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// connectAndNotAccept has a connection by a unix socket wait.
func connectAndNotAccept(withData, isClosed bool) error {
	address := &unix.SockaddrUnix{Name: fmt.Sprintf("@probe-test-%d", os.Getpid())}
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	client, err2 := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err := errors.Join(err, err2, unix.Bind(listener, address), unix.Listen(listener, 5), unix.Connect(client, address)); err != nil {
		return err
	}
	if withData {
		_, err = unix.Write(client, []byte("early"))
	}
	if isClosed {
		err = errors.Join(err, unix.Close(client))
	}
	return err
}

func askAndNotRead() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	request := make([]byte, 32)
	binary.NativeEndian.PutUint32(request, 32)
	binary.NativeEndian.PutUint16(request[4:], unix.RTM_GETLINK)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	return unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// start starts a process that holds something, and skips the test where the kernel does not give that.
func start(t *testing.T, what string, files ...*os.File) int {
	t.Helper()
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), holding+"="+what, "GODEBUG=multipathtcp=0")
	command.ExtraFiles, command.Stderr = files, os.Stderr
	input, err := command.StdinPipe()
	output, err2 := command.StdoutPipe()
	if err := errors.Join(err, err2, command.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = input.Close(); _ = command.Wait() })
	said := make([]byte, 200)
	n, err := output.Read(said)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(said[:n]); text != "holds\n" {
		t.Skip(text)
	}
	return command.Process.Pid
}

func TestFindings(t *testing.T) {
	for what, want := range map[string]Finding{
		"nothing":           {},
		"packets":           {Reason: keys.UnprotectedDescriptor, What: "holds a pipe of packets (O_DIRECT), descriptor "},
		"fuse":              {Reason: keys.UnprotectedDeviceInUse, What: "has the device /dev/fuse open, descriptor "},
		"vsock":             {Reason: keys.UnprotectedSocket, What: "has a socket of the kind AF_VSOCK, descriptor "},
		"datagrams":         {},
		"corked":            {Reason: keys.UnprotectedSocket, What: "holds datagrams back in a UDP socket (UDP_CORK), descriptor ", Passing: true},
		"pidfd of a thread": {Reason: keys.UnprotectedDescriptor, What: "holds a pidfd of a thread (PIDFD_THREAD), descriptor "},
		"counter":           {},
		"semaphore":         {Reason: keys.CheckpointableChanged, What: "holds a semaphore (EFD_SEMAPHORE), which comes back as a counter, descriptor "},
		"secret":            {Reason: keys.UnprotectedDescriptor, What: "holds secret memory (memfd_secret), descriptor "},
		"deleted":           {Reason: keys.UnprotectedLargeDeletedFile, What: "has the deleted file /tmp/"},
		"message queue":     {Reason: keys.UnprotectedMessageQueue, What: "has the POSIX message queue /probe-test (deleted) open, descriptor "},
		"unread":            {Reason: keys.UnprotectedUnread, What: "does not read the messages of a netlink socket", Passing: true},

		"waits to be accepted":          {},
		"waits with data":               {Reason: keys.UnprotectedUnread, What: "has sent data over a unix socket, and the other end does not accept", Passing: true},
		"closed before it was accepted": {Reason: keys.UnprotectedUnread, What: "does not accept connections by a unix socket, of which one", Passing: true},
		"closed with data":              {Reason: keys.UnprotectedUnread, What: "does not accept connections by a unix socket, of which one", Passing: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			pid := start(t, what)
			report, err := Look(Container{Proc: "/proc", Init: pid, GhostLimit: 32 << 10})
			if err != nil {
				t.Fatal(err)
			}
			if report.Missed != nil && os.Getuid() == 0 {
				t.Error(report.Missed)
			}
			// The test program may run in a folder or with outputs that its own mounts do not show.
			found := slices.DeleteFunc(report.Findings, func(f Finding) bool { return f.Reason == keys.UnprotectedDetachedFile })
			if want.Reason == "" {
				if len(found) != 0 {
					t.Errorf("it found %v", found)
				}
				return
			}
			if len(found) != 1 {
				t.Fatalf("it found %v", found)
			}
			f := found[0]
			if f.Reason != want.Reason || !strings.HasPrefix(f.What, want.What) || f.Passing != want.Passing || f.PID != pid || f.Advice == "" {
				t.Errorf("it found %+v, want %+v of process %d", f, want, pid)
			}
		})
	}
}

// A unix socket whose other end is outside is found; one within, or that an exec session holds, is none.
func TestConnectionsToOutside(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may look into a network namespace")
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine, theirs := os.NewFile(uintptr(ends[0]), "mine"), os.NewFile(uintptr(ends[1]), "theirs")
	defer mine.Close()
	defer theirs.Close()
	inside, outside := start(t, "nothing", mine, theirs), start(t, "nothing", theirs)
	for name, test := range map[string]struct {
		pid    int
		others *others
		want   int
	}{
		"both ends are within":              {inside, &others{}, 0},
		"the other end is outside":          {outside, &others{}, 1},
		"an exec session has the other end": {outside, nil, 0}, // of this program, which has the same PID namespace
	} {
		t.Run(name, func(t *testing.T) {
			l := newLook(Container{Proc: "/proc", Init: test.pid})
			l.others = test.others
			if err := l.all(); err != nil {
				t.Fatal(err)
			}
			found := slices.DeleteFunc(l.report.Findings, func(f Finding) bool { return f.Reason != keys.UnprotectedOutsideSocket })
			if len(found) != test.want {
				t.Errorf("it found %v", found)
			}
		})
	}
}

func TestATracedProcess(t *testing.T) {
	pid := start(t, "nothing")
	done := make(chan struct{})
	defer close(done)
	seized := make(chan error)
	go func() { // a tracer is a thread; it ends with the test
		seized <- unix.PtraceSeize(pid)
		<-done
	}()
	if err := <-seized; err != nil {
		t.Skip(err)
	}
	l := newLook(Container{Proc: "/proc", Init: pid})
	if err := l.walk(); err != nil {
		t.Fatal(err)
	}
	l.own, l.others = l.tree[pid].namespaces, &others{} // nobody is a stranger
	l.traced(l.tree[pid])
	want := []Finding{{Reason: keys.UnprotectedTraced, PID: pid, Command: l.tree[pid].command, What: "is traced from outside its container",
		Advice: "end the debugger, strace or other tracer", Passing: true}}
	if diff := cmp.Diff(want, l.report.Findings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAContainerThatHasEnded(t *testing.T) {
	command := exec.Command("true")
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := Look(Container{Proc: "/proc", Init: command.Process.Pid}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it says %v", err)
	}
}

func TestNestedNamespaces(t *testing.T) {
	l := &look{own: namespaces{"pid": "pid:[1]", "user": "user:[2]", "net": "net:[3]", "mnt": "mnt:[4]"}}
	l.nested(&process{command: "same", namespaces: namespaces{"pid": "pid:[1]", "user": "user:[2]"}})
	l.nested(&process{command: "mounts", namespaces: namespaces{"pid": "pid:[1]", "mnt": "mnt:[9]", "net": "net:[3]"}})
	l.nested(&process{command: "bwrap", inner: 7, namespaces: namespaces{"pid": "pid:[9]", "user": "user:[9]"}})
	want := []Finding{{Reason: keys.UnprotectedNestedNamespace, PID: 7, Command: "bwrap", What: "has a pid namespace of its own",
		Advice: "run it in the container itself, without a sandbox or a container inside"}}
	if diff := cmp.Diff(want, l.report.Findings); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGroupsOfNetlink(t *testing.T) {
	mask := func(words ...uint32) (out []byte) {
		for _, word := range words {
			out = binary.NativeEndian.AppendUint32(out, word)
		}
		return out
	}
	for name, test := range map[string]struct {
		mask  []byte
		bound bool
		want  bool
	}{
		"none":                  {nil, false, false},
		"the first word":        {mask(3, 0), true, false},
		"the second":            {mask(0, 2), true, true},
		"room for four words":   {mask(1, 0, 0, 0), true, true},
		"groups without a port": {mask(1, 0), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := refusesGroups(test.mask, test.bound); got != test.want {
				t.Errorf("it says %t", got)
			}
		})
	}
}

func TestPathsOfMounts(t *testing.T) {
	table := &table{top: map[string]uint64{"/": 1, "/data": 2, "/data/deep": 3}}
	for path, want := range map[string]uint64{"/etc/passwd": 1, "/data": 2, "/data/x": 2, "/data/deep/x (deleted)": 3, "/database": 1} {
		if got := table.covers(path); got != want {
			t.Errorf("%s is on %d, want %d", path, got, want)
		}
	}
	if got := unescape(`/with\040blank\134`); got != `/with blank\` {
		t.Errorf("it is %q", got)
	}
	if got := pathAt("7f-80 rw-p 00 00:01 7   /dev/x y"); got != 24 {
		t.Errorf("the path begins at %d", got)
	}
	if got := pathAt("7f-80 rw-p 00 00:00 0 "); got != -1 {
		t.Errorf("no path begins at %d", got)
	}
}

// BenchmarkLook looks at 1,000 processes with 10 descriptors each.
func BenchmarkLook(b *testing.B) {
	const processes, descriptors = 1000, 7 // beside the three that each has
	null, err := os.Open(os.DevNull)
	if err != nil {
		b.Fatal(err)
	}
	shell := exec.Command("sh", "-c", `i=0; while [ $i -lt $COUNT ]; do sleep 1000 & i=$((i+1)); done; echo ready; wait`)
	shell.Env = append(os.Environ(), "COUNT=1000")
	shell.ExtraFiles = slices.Repeat([]*os.File{null}, descriptors)
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output, err := shell.StdoutPipe()
	if err := errors.Join(err, shell.Start()); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL); _ = shell.Wait() }()
	if _, err := output.Read(make([]byte, 10)); err != nil {
		b.Fatal(err)
	}
	time.Sleep(time.Second)
	before := processorTime()
	for b.Loop() {
		report, err := Look(Container{Proc: "/proc", Init: shell.Process.Pid})
		if err != nil || report.Processes != processes+1 || report.Descriptors < processes*(descriptors+3) {
			b.Fatalf("%+v, %v", report, err)
		}
	}
	b.ReportMetric(float64((processorTime()-before).Milliseconds())/float64(b.N), "cpu-ms/op")
}

func processorTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
