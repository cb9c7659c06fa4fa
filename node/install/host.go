package install

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Host finds the node's containerd: the agent shares the process IDs of the node.
type Host struct {
	// Socket is that of containerd.
	Socket string
}

// Containerd asks the kernel who listens on the socket.
func (h Host) Containerd() (*Containerd, error) {
	connection, err := net.DialTimeout("unix", h.Socket, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("find containerd: %w", err)
	}
	defer connection.Close()
	raw, err := connection.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	if controlErr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); controlErr != nil {
		return nil, controlErr
	}
	if err != nil || peer.Pid == 0 {
		return nil, errors.Join(err, errors.New("find containerd: its process is not to be seen; the agent needs hostPID"))
	}
	return &Containerd{socket: h.Socket, pid: int(peer.Pid)}, nil
}
