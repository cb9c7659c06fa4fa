package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	sk_inet "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-inet"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

const (
	// The states of a socket that was cut, and of one that listens (linux/tcp_states.h).
	tcpClose  = 7
	tcpListen = 10
	// magicSize is that of an image's head: two numbers.
	magicSize = 8
	// maxFilesSize bounds the image of a container's open files, in bytes.
	maxFilesSize = 256 << 20
)

// adaptSockets changes the captured sockets for the new pod, of which they give the network namespace: what was bound to the former pod's
// address is bound to the new one's, and a connection that was cut is a socket without a connection, as whoever reads it is to find out. CRIU
// would bind the addresses as they were, and fail.
func adaptSockets(images, network string) error {
	var own map[netip.Addr]bool
	err := inNamespace(network, unix.CLONE_NEWNET, func() (err error) {
		own, err = ownAddresses()
		return err
	})
	if err != nil {
		return err
	}
	path := filepath.Join(images, "files.img")
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxFilesSize {
		return fmt.Errorf("files.img has %d bytes; it may have %d", info.Size(), maxFilesSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	adapted, err := adaptFiles(data, own)
	if err != nil {
		return fmt.Errorf("read files.img: %w", err)
	}
	if slices.Equal(adapted, data) {
		return nil
	}
	return replaceFile(path, adapted)
}

// adaptFiles rewrites the entries of sockets in an image of open files, and leaves all others as they are, byte by byte.
func adaptFiles(image []byte, own map[netip.Addr]bool) ([]byte, error) {
	if len(image) < magicSize {
		return nil, errors.New("it has no head")
	}
	var former map[netip.Addr]bool
	for _, change := range []bool{false, true} { // the addresses first, as a connection inside the pod has two of them
		seen := map[netip.Addr]bool{}
		out := slices.Clone(image[:magicSize])
		for rest := image[magicSize:]; len(rest) > 0; {
			if len(rest) < 4 || int64(binary.LittleEndian.Uint32(rest)) > int64(len(rest)-4) {
				return nil, errors.New("an entry is cut short")
			}
			entry := rest[4 : 4+binary.LittleEndian.Uint32(rest)]
			rest = rest[4+len(entry):]
			file := &fdinfo.FileEntry{}
			if err := proto.Unmarshal(entry, file); err != nil {
				return nil, err
			}
			if socket := file.GetIsk(); socket != nil {
				if a, ok := address(socket.GetSrcAddr()); ok && socket.GetState() != tcpClose {
					seen[a] = true
				}
				if change && adaptSocket(socket, former, own) {
					var err error
					if entry, err = proto.Marshal(file); err != nil {
						return nil, err
					}
				}
			}
			out = binary.LittleEndian.AppendUint32(out, uint32(len(entry)))
			out = append(out, entry...)
		}
		if change {
			return out, nil
		}
		former = seen
	}
	return nil, nil
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
