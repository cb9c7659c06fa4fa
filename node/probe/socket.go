package probe

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// dumpable are the protocols of sockets that CRIU dumps, as the kernel names them (criu/sockets.c, criu/sk-inet.c).
var dumpable = map[string]bool{
	"": true, "TCP": true, "TCPv6": true, "UDP": true, "UDPv6": true, "UDP-Lite": true, "UDPLITEv6": true, "RAW": true, "RAWv6": true, "PING": true,
	"PINGv6": true, "UNIX": true, "UNIX-STREAM": true, "NETLINK": true, "PACKET": true,
}

// socketOf returns the inode of "socket:[INODE]".
func socketOf(link string) (inode uint64, isSocket bool) {
	text, found := strings.CutPrefix(link, "socket:[")
	if !found {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
	return inode, err == nil
}

// socket looks at the family of a socket. That is an attribute of its inode, which tells of sockets of all families.
func (l *look) socket(p *process, name, link string) {
	if inode, isSocket := socketOf(link); isSocket {
		l.inodes[inode] = p
	}
	var protocol [64]byte
	n, err := unix.Getxattr(l.path(p.pid, "fd/"+name), "system.sockprotoname", protocol[:])
	if err != nil {
		return
	}
	if kind := strings.TrimRight(string(protocol[:n]), "\x00"); !dumpable[kind] {
		l.add(p, Finding{Reason: keys.UnprotectedSocket, What: fmt.Sprintf("has a socket of the kind %s, descriptor %s", kind, name), Advice: adviceForSocket(kind)})
	} else if strings.HasPrefix(kind, "UDP") && isCorked(p.pid, name) {
		l.add(p, Finding{Reason: keys.UnprotectedSocket, What: "holds datagrams back in a UDP socket (UDP_CORK), descriptor " + name, Passing: true,
			Advice: "have it send whole datagrams, or take the option off between them"})
	}
}

// isCorked tells whether a UDP socket holds datagrams back, which CRIU refuses (criu/sk-inet.c). No list of the kernel tells it; the socket does. A process
// that is gone, or may not be asked, has none.
func isCorked(pid int, name string) bool {
	number, err := strconv.Atoi(name)
	if err != nil {
		return false
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(process)
	socket, err := unix.PidfdGetfd(process, number, 0)
	if err != nil {
		return false
	}
	defer unix.Close(socket)
	value, err := unix.GetsockoptInt(socket, unix.SOL_UDP, unix.UDP_CORK)
	return err == nil && value != 0
}

func adviceForSocket(kind string) string {
	switch kind {
	case "MPTCP", "MPTCPv6":
		return "have it use TCP (Go: GODEBUG=multipathtcp=0)"
	case "ALG":
		return "have it encrypt in the program"
	}
	return "use TCP, UDP or unix sockets"
}

// sockets looks at states of sockets that the kernel tells of in lists.
func (l *look) sockets() error {
	if len(l.inodes) == 0 {
		return nil
	}
	if err := l.unread(); err != nil {
		return err
	}
	s, err := l.diagnose()
	l.report.Missed = err
	for inode, peer := range s.peers {
		p := l.inodes[inode]
		if p == nil || peer == 0 || l.inodes[peer] != nil || l.strangers().inodes[peer] {
			continue
		}
		l.add(p, Finding{Reason: keys.UnprotectedOutsideSocket, What: "has a connection by a unix socket to outside its container", Passing: true,
			Advice: "use TCP between containers; a client of the node's daemons cannot be captured while it is connected"})
	}
	l.unaccepted(s)
	for inode, refused := range s.groups {
		if p := l.inodes[inode]; p != nil && refused {
			l.add(p, Finding{Reason: keys.UnprotectedSocket, What: "listens to netlink groups above 32", Advice: "have it close that socket"})
		}
	}
	return nil
}

// unaccepted looks for connections by unix sockets that nobody has accepted, and for which CRIU refuses the dump (criu/sk-unix.c): those whose other end
// is closed already, and those that have brought data. Others come along. A capture waits a little for them.
func (l *look) unaccepted(s diagnosis) {
	for listener, clients := range s.waiting {
		if p := l.inodes[listener]; p != nil && slices.Contains(clients, 0) {
			l.add(p, Finding{Reason: keys.UnprotectedUnread, What: "does not accept connections by a unix socket, of which one was closed by its other end",
				Advice: "have it accept them, or close the socket on which it listens", Passing: true})
		}
		for _, client := range clients {
			if p := l.inodes[client]; p != nil && s.unread[client] {
				l.add(p, Finding{Reason: keys.UnprotectedUnread, What: "has sent data over a unix socket, and the other end does not accept the connection",
					Advice: "have the other end accept it, or close it", Passing: true})
			}
		}
	}
}

// unread looks for netlink sockets with messages that were not read.
func (l *look) unread() error {
	text, err := l.read(l.Init, "net/netlink")
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[4] == "0" {
			continue
		}
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if err != nil {
			continue
		}
		if p := l.inodes[inode]; p != nil {
			l.add(p, Finding{Reason: keys.UnprotectedUnread, What: "does not read the messages of a netlink socket", Passing: true,
				Advice: "have it read them, or close the socket"})
		}
	}
	return nil
}
