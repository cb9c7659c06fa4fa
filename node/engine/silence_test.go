package engine

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestASilentLoopbackKeepsItsConnections needs root, for a network namespace of its own.
func TestASilentLoopbackKeepsItsConnections(t *testing.T) {
	if os.Getuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("a network namespace needs root")
	}
	namespace := newNetwork(t)
	var client, server net.Conn
	err := inNamespace(namespace, unix.CLONE_NEWNET, func() error {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer listener.Close()
		if client, err = net.Dial("tcp", listener.Addr().String()); err != nil {
			return err
		}
		server, err = listener.Accept()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	defer server.Close()
	for range 2 { // what is silent already may be silenced again
		if err := silenceLoopback(namespace, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	read := make([]byte, 5)
	_ = server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := server.Read(read); err == nil {
		t.Errorf("through a silent loopback came %q", read[:n])
	}
	for range 2 {
		if err := silenceLoopback(namespace, false); err != nil {
			t.Fatal(err)
		}
	}
	_ = server.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := server.Read(read); err != nil || string(read[:n]) != "hello" {
		t.Errorf("after the silence came %q, %v", read[:n], err)
	}
}

// newNetwork returns the file of a network namespace that lasts as long as the test, with its loopback device up.
func newNetwork(t *testing.T) string {
	t.Helper()
	path := make(chan string)
	end := make(chan struct{})
	go func() {
		runtime.LockOSThread() // the thread is the namespace's only user, and ends with this function
		defer close(path)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		if err := loopbackUp(); err != nil {
			t.Error(err)
			return
		}
		path <- "/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/ns/net"
		<-end
	}()
	t.Cleanup(func() { close(end) })
	found, ok := <-path
	if !ok {
		t.FailNow()
	}
	return found
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}
