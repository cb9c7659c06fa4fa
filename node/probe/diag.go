package probe

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// diagnosis is what sock_diag says of the sockets of a network namespace, by inode.
type diagnosis struct {
	peers map[uint64]uint64 // of unix sockets
	// unread are unix sockets that have sent what the other end has not read.
	unread map[uint64]bool
	// waiting are, by the unix socket that listens, those that have connected to it and that nobody has accepted. 0 is one that was closed.
	waiting map[uint64][]uint64
	groups  map[uint64]bool // netlink sockets whose groups CRIU refuses
}

// diagnose asks for it. Only sock_diag knows which unix socket is connected to which.
func (l *look) diagnose() (diagnosis, error) {
	d := diagnosis{peers: map[uint64]uint64{}, unread: map[uint64]bool{}, waiting: map[uint64][]uint64{}, groups: map[uint64]bool{}}
	err := inNetwork(l.path(l.Init, "ns/net"), func() error {
		if err := d.askUnix(); err != nil {
			return fmt.Errorf("ask for unix sockets: %w", err)
		}
		if err := d.askNetlink(); err != nil {
			return fmt.Errorf("ask for netlink sockets: %w", err)
		}
		return nil
	})
	return d, err
}

// inNetwork does something in a network namespace, on a thread that ends with it.
func inNetwork(path string, work func() error) error {
	namespace, err := os.Open(path)
	if err != nil {
		return err
	}
	defer namespace.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		done <- work()
	}()
	return <-done
}

// The parts of linux/unix_diag.h and linux/netlink_diag.h that are needed.
const (
	sockDiagByFamily   = 20
	stateListen        = 10 // of a socket, as TCP_LISTEN
	showUnixPeer       = 4
	showUnixWaiting    = 8
	showUnixQueues     = 16
	unixDiagPeer       = 2
	unixDiagWaiting    = 3
	unixDiagQueues     = 4
	unixHeader         = 16
	allNetlink         = 255
	showNetlinkGroups  = 2
	netlinkDiagGroups  = 1
	netlinkHeader      = 28
	netlinkPortOffset  = 4
	netlinkInodeOffset = 16
)

// askUnix asks for those that listen apart: of a long queue the kernel gives no answer, and ends the list before it.
func (d diagnosis) askUnix() error {
	err := dumpUnix(^uint32(1<<stateListen), showUnixPeer|showUnixQueues, func(inode uint64, attributes map[uint16][]byte) {
		if peer := attributes[unixDiagPeer]; len(peer) >= 4 {
			d.peers[inode] = uint64(binary.NativeEndian.Uint32(peer))
		}
		if queues := attributes[unixDiagQueues]; len(queues) >= 8 { // what it has received, and what it has sent
			d.unread[inode] = binary.NativeEndian.Uint32(queues[4:]) != 0
		}
	})
	if err != nil {
		return err
	}
	return dumpUnix(1<<stateListen, showUnixWaiting, func(inode uint64, attributes map[uint16][]byte) {
		for clients := attributes[unixDiagWaiting]; len(clients) >= 4; clients = clients[4:] {
			d.waiting[inode] = append(d.waiting[inode], uint64(binary.NativeEndian.Uint32(clients)))
		}
	})
}

// dumpUnix asks for the unix sockets in these states, as a mask, and for these attributes of them.
func dumpUnix(states, show uint32, take func(inode uint64, attributes map[uint16][]byte)) error {
	request := make([]byte, 24) // family, protocol, pad, states, inode, show, cookie
	request[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(request[4:], states)
	binary.NativeEndian.PutUint32(request[12:], show)
	return dump(request, unixHeader, func(message []byte, attributes map[uint16][]byte) {
		take(uint64(binary.NativeEndian.Uint32(message[4:])), attributes)
	})
}

func (d diagnosis) askNetlink() error {
	request := make([]byte, 20) // family, protocol, pad, inode, show, cookie
	request[0], request[1] = unix.AF_NETLINK, allNetlink
	binary.NativeEndian.PutUint32(request[8:], showNetlinkGroups)
	return dump(request, netlinkHeader, func(message []byte, attributes map[uint16][]byte) {
		inode := uint64(binary.NativeEndian.Uint32(message[netlinkInodeOffset:]))
		bound := binary.NativeEndian.Uint32(message[netlinkPortOffset:]) != 0
		d.groups[inode] = refusesGroups(attributes[netlinkDiagGroups], bound)
	})
}

// refusesGroups judges a mask of groups as CRIU does (criu/sk-netlink.c): it has room for one word of 32 bits.
func refusesGroups(mask []byte, bound bool) bool {
	words := len(mask) / 4
	if words > 0 && binary.NativeEndian.Uint32(mask[4*(words-1):]) == 0 {
		words--
	}
	return words > 1 || len(mask) > 0 && !bound
}

// dump sends a request to sock_diag and hands out each answer: its fixed part, of the size header, and its attributes.
func dump(request []byte, header int, take func(message []byte, attributes map[uint16][]byte)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	message := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(request))
	binary.NativeEndian.PutUint32(message, uint32(unix.NLMSG_HDRLEN+len(request)))
	binary.NativeEndian.PutUint16(message[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(fd, append(message, request...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			return err
		}
		answers, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return err
		}
		for _, answer := range answers {
			switch {
			case answer.Header.Type == unix.NLMSG_DONE:
				return nil
			case answer.Header.Type == unix.NLMSG_ERROR:
				return errorOf(answer.Data)
			case len(answer.Data) >= header:
				take(answer.Data[:header], attributesOf(answer.Data[header:]))
			}
		}
	}
}

func errorOf(data []byte) error {
	if len(data) < 4 {
		return unix.EBADMSG
	}
	return syscall.Errno(-int32(binary.NativeEndian.Uint32(data)))
}

// attributesOf takes a list of netlink attributes apart.
func attributesOf(data []byte) map[uint16][]byte {
	found := map[uint16][]byte{}
	for len(data) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(data))
		if size < unix.SizeofRtAttr || size > len(data) {
			break
		}
		found[binary.NativeEndian.Uint16(data[2:])] = data[unix.SizeofRtAttr:size]
		data = data[min(len(data), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return found
}
