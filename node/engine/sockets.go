package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// The messages of sock_diag(7), which x/sys has no types for: struct inet_diag_req_v2 and inet_diag_msg of linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	diagIDSize       = 48 // struct inet_diag_sockid
	diagRequestSize  = 8 + diagIDSize
	diagMessageSize  = 4 + diagIDSize + 20 // the last 4 are the inode
	// All states of a TCP socket that has a peer: all but CLOSE (7) and LISTEN (10), and TIME_WAIT (6), which no process holds.
	diagStates = 0xfff &^ (1<<6 | 1<<7 | 1<<10)
)

// inNamespace runs work in a thread that has entered the namespace of that file. The thread ends with it.
func inNamespace(path string, kind int, work func() error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread is not used again
		if err := unix.Setns(int(file.Fd()), kind); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", path, err)
			return
		}
		done <- work()
	}()
	return <-done
}

// severance says which TCP connections of a pod do not outlive it.
type severance struct {
	// keepOutside keeps those whose peer is outside of the pod.
	keepOutside bool
	// captured returns the sockets that captured processes hold, by their inodes.
	captured func() map[uint32]bool
}

// cutConnections destroys TCP connections of a network namespace inside the freeze, so that the peer sees a reset at once, and not the silence of
// an address or a process that went. Those inside the pod and listening sockets stay. It returns how many there were.
func cutConnections(network string, s severance) (cut int, err error) {
	err = inNamespace(network, unix.CLONE_NEWNET, func() error {
		own, err := ownAddresses()
		if err != nil {
			return err
		}
		socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return err
		}
		defer unix.Close(socket)
		var all []connection
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			connections, err := listConnections(socket, family)
			if err != nil {
				return err
			}
			all = append(all, connections...)
		}
		for _, c := range s.doomed(all, own) {
			if err := destroy(socket, c.family, c.id); err != nil {
				return fmt.Errorf("cut the connection to %s: %w", c.peer, err)
			}
			cut++
		}
		return nil
	})
	return cut, err
}

// doomed returns the connections to cut: those to the outside, those that nobody has accepted yet, which CRIU leaves out, and those by loopback to
// a process that is not captured, as a port-forward, which the container engine holds in the pod's network, or the proxy of a service mesh. Of such a
// pair it is the captured end.
func (s severance) doomed(all []connection, own map[netip.Addr]bool) []connection {
	var doomed []connection
	inside := map[[2]netip.AddrPort]uint32{}
	for _, c := range all {
		isInside := c.peer.Addr().IsLoopback() || own[c.peer.Addr()]
		if isInside {
			inside[[2]netip.AddrPort{c.local, c.peer}] = c.inode
		}
		if !isInside && !s.keepOutside || c.unaccepted {
			doomed = append(doomed, c)
		}
	}
	if len(inside) == 0 {
		return doomed
	}
	captured := s.captured()
	for _, c := range all {
		other := inside[[2]netip.AddrPort{c.peer, c.local}]
		// An end without an inode is held by nobody: it is closing, or waits to be accepted.
		if other != 0 && captured[c.inode] && !captured[other] {
			doomed = append(doomed, c)
		}
	}
	return doomed
}

func ownAddresses() (map[netip.Addr]bool, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	own := map[netip.Addr]bool{}
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			own[prefix.Addr().Unmap()] = true
		}
	}
	return own, nil
}

// connection is a TCP socket that has a peer; id is how the kernel names it. An unaccepted one is established and no process has it.
type connection struct {
	family      byte
	id          [diagIDSize]byte
	local, peer netip.AddrPort
	inode       uint32 // of the socket, as /proc/PID/fd names it; 0 where no process holds it
	unaccepted  bool
}

func listConnections(socket int, family byte) ([]connection, error) {
	request := diagRequest(sockDiagByFamily, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, family, [diagIDSize]byte{})
	if err := unix.Sendto(socket, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var found []connection
	err := receive(socket, func(kind uint16, body []byte) (done bool, err error) {
		if kind == unix.NLMSG_DONE {
			return true, nil
		}
		if kind != sockDiagByFamily || len(body) < diagMessageSize {
			return false, fmt.Errorf("sock_diag answered with a message of type %d and %d bytes", kind, len(body))
		}
		c := connection{family: family, id: [diagIDSize]byte(body[4:]), inode: binary.NativeEndian.Uint32(body[4+diagIDSize+16:])}
		c.unaccepted = c.inode == 0 && (body[1] == tcpEstablished || body[1] == tcpCloseWait)
		// Two ports of 2 bytes, two addresses of 16.
		c.local = netip.AddrPortFrom(diagAddress(family, c.id[4:]), binary.BigEndian.Uint16(c.id[0:]))
		c.peer = netip.AddrPortFrom(diagAddress(family, c.id[20:]), binary.BigEndian.Uint16(c.id[2:]))
		found = append(found, c)
		return false, nil
	})
	return found, err
}

func diagAddress(family byte, bytes []byte) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(bytes))
	}
	return netip.AddrFrom16([16]byte(bytes)).Unmap()
}

func destroy(socket int, family byte, id [diagIDSize]byte) error {
	request := diagRequest(sockDestroy, unix.NLM_F_REQUEST|unix.NLM_F_ACK, family, id)
	if err := unix.Sendto(socket, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	err := receive(socket, func(uint16, []byte) (bool, error) { return true, nil })
	if errors.Is(err, unix.ENOENT) { // it has gone by itself
		return nil
	}
	return err
}

func diagRequest(kind, flags uint16, family byte, id [diagIDSize]byte) []byte {
	message := make([]byte, unix.SizeofNlMsghdr+diagRequestSize)
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], flags)
	body := message[unix.SizeofNlMsghdr:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], diagStates)
	copy(body[8:], id[:])
	return message
}

// receive hands the messages of an answer on until each says that it is the last. An error message with a number is that error.
func receive(socket int, each func(kind uint16, body []byte) (done bool, err error)) error {
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(socket, buffer, 0)
		if err != nil {
			return err
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			length := int(binary.NativeEndian.Uint32(rest))
			if length < unix.SizeofNlMsghdr || length > len(rest) {
				return errors.New("netlink message of an impossible length")
			}
			kind, body := binary.NativeEndian.Uint16(rest[4:]), rest[unix.SizeofNlMsghdr:length]
			if kind == unix.NLMSG_ERROR && len(body) >= 4 {
				if number := int32(binary.NativeEndian.Uint32(body)); number != 0 {
					return unix.Errno(-number)
				}
			}
			if done, err := each(kind, body); err != nil || done {
				return err
			}
			rest = rest[min(len(rest), (length+3)&^3):]
		}
	}
}

// DisableMultipathTCP has programs in a network namespace listen on plain TCP, as CRIU cannot dump the other kind. A kernel without it is fine.
func DisableMultipathTCP(network string) error {
	return inNamespace(network, unix.CLONE_NEWNET, func() error {
		err := os.WriteFile("/proc/sys/net/mptcp/enabled", []byte("0"), 0o644)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}
