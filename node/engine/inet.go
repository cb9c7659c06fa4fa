package engine

import (
	"encoding/binary"
	"net/netip"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	sk_inet "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-inet"
	"golang.org/x/sys/unix"
)

// States of TCP sockets (linux/tcp_states.h); one that was cut is in tcpClose.
const (
	tcpEstablished = 1
	tcpClose       = 7
	tcpCloseWait   = 8
	tcpListen      = 10
)

// adaptSockets changes the captured sockets for the new pod with those addresses: what was bound to the former pod's address is bound to the new
// one's, and a connection that was cut is a socket without a connection, as whoever reads it is to find out. CRIU would bind the addresses as they
// were, and fail.
func adaptSockets(image []byte, own map[netip.Addr]bool) ([]byte, error) {
	former := map[netip.Addr]bool{} // all of them first, as a connection inside the pod has two
	_, err := editFiles(image, func(file *fdinfo.FileEntry) bool {
		if socket := file.GetIsk(); socket != nil && socket.GetState() != tcpClose {
			if a, ok := address(socket.GetSrcAddr()); ok {
				former[a] = true
			}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	return editFiles(image, func(file *fdinfo.FileEntry) bool {
		socket := file.GetIsk()
		return socket != nil && adaptSocket(socket, former, own)
	})
}

// adaptSocket changes one socket, and tells whether it did.
func adaptSocket(s *sk_inet.InetSkEntry, former, own map[netip.Addr]bool) bool {
	if isStranded(s, former, own) {
		s.State = new(uint32(tcpClose))
	}
	if s.GetProto() == unix.IPPROTO_TCP && s.GetState() == tcpClose {
		if s.GetDstPort() == 0 && s.GetSrcPort() == 0 {
			return false
		}
		none := uint32(0)
		s.SrcPort, s.DstPort = &none, &none
		s.SrcAddr, s.DstAddr = make([]uint32, len(s.SrcAddr)), make([]uint32, len(s.DstAddr))
		return true
	}
	source, destination := move(s.SrcAddr, former, own), move(s.DstAddr, former, own)
	return source || destination
}

// isStranded tells whether a socket is a TCP connection to the outside, from an address that the new pod has not: its peer would never answer.
func isStranded(s *sk_inet.InetSkEntry, former, own map[netip.Addr]bool) bool {
	source, ok := address(s.GetSrcAddr())
	peer, hasPeer := address(s.GetDstAddr())
	isConnection := s.GetProto() == unix.IPPROTO_TCP && s.GetState() != tcpClose && s.GetState() != tcpListen
	return isConnection && ok && hasPeer && !own[source] && !former[peer] && !peer.IsLoopback()
}

// move replaces an address of the former pod by that of the new one.
func move(words []uint32, former, own map[netip.Addr]bool) bool {
	a, ok := address(words)
	if !ok || !former[a] || own[a] || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return false
	}
	for mine := range own {
		if mine.Is4() == a.Is4() && mine.IsGlobalUnicast() {
			put(words, mine)
			return true
		}
	}
	return false
}

// address reads an address as CRIU keeps it: one word or four, in the order of the network.
func address(words []uint32) (netip.Addr, bool) {
	bytes := make([]byte, 0, 16)
	for _, word := range words {
		bytes = binary.NativeEndian.AppendUint32(bytes, word)
	}
	a, ok := netip.AddrFromSlice(bytes)
	return a.Unmap(), ok
}

// put writes an address in the place of one of the same family; an IPv4 address in four words is a mapped one.
func put(words []uint32, a netip.Addr) {
	bytes := a.AsSlice()
	for i := range bytes[:len(bytes)/4] {
		words[len(words)-len(bytes)/4+i] = binary.NativeEndian.Uint32(bytes[4*i:])
	}
}
