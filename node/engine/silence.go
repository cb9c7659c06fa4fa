package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// The message of rtnetlink(7) for a queueing discipline: struct tcmsg of linux/rtnetlink.h, which x/sys lacks.
const (
	tcMessageSize = 20
	tcRoot        = 0xffffffff // TC_H_ROOT
	tcaKind       = 1
)

// quietLoopback has TCP on the loopback device of a pod lost for a while, or no more: by a packet filter, which lets CRIU's own packets pass, or
// where the kernel has none, with all else that is sent by it.
func (e *Engine) quietLoopback(network string, quiet bool) error {
	if !quiet {
		return errors.Join(filterLoopback(network, false), silenceLoopback(network, false))
	}
	err := filterLoopback(network, true)
	if err == nil {
		return nil
	}
	e.Log("loopback loses all that is sent by it, as it cannot be filtered: %v", err)
	return silenceLoopback(network, true)
}

// silenceLoopback has the loopback device of a network namespace lose all that is sent by it, or no more. A connection between two containers
// of a pod outlives that, as TCP sends again; it would not outlive that one of them sends while the other's end is not there yet.
func silenceLoopback(network string, silent bool) error {
	return inNamespace(network, unix.CLONE_NEWNET, func() error {
		loopback, err := net.InterfaceByName("lo")
		if err != nil {
			return err
		}
		return silence(loopback, silent)
	})
}

// silenceOutside has all other devices lose what is sent by them, for good.
func silenceOutside(network string) error {
	return inNamespace(network, unix.CLONE_NEWNET, func() error {
		devices, err := net.Interfaces()
		for _, device := range devices {
			if device.Flags&net.FlagLoopback == 0 {
				err = errors.Join(err, silence(&device, true))
			}
		}
		return err
	})
}

// silence changes a device of the thread's network namespace.
func silence(device *net.Interface, silent bool) error {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	kind, flags := uint16(unix.RTM_NEWQDISC), uint16(unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	if !silent {
		kind, flags = unix.RTM_DELQDISC, unix.NLM_F_REQUEST|unix.NLM_F_ACK
	}
	if err := unix.Sendto(socket, queueRequest(kind, flags, device.Index), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	err = receive(socket, func(uint16, []byte) (bool, error) { return true, nil })
	if !silent && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)) { // there is none to take away
		return nil
	}
	if err != nil {
		return fmt.Errorf("queueing discipline of the pod's device %s: %w", device.Name, err)
	}
	return nil
}

// queueRequest asks for the queueing discipline "blackhole" at the root of a device, which every kernel with traffic control has built in.
func queueRequest(kind, flags uint16, device int) []byte {
	name := []byte("blackhole\x00")
	length := unix.SizeofNlMsghdr + tcMessageSize + unix.SizeofRtAttr + len(name)
	message := make([]byte, (length+3)&^3)
	binary.NativeEndian.PutUint32(message, uint32(length))
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], flags)
	body := message[unix.SizeofNlMsghdr:]
	binary.NativeEndian.PutUint32(body[4:], uint32(device))
	binary.NativeEndian.PutUint32(body[12:], tcRoot)
	attribute := body[tcMessageSize:]
	binary.NativeEndian.PutUint16(attribute, uint16(unix.SizeofRtAttr+len(name)))
	binary.NativeEndian.PutUint16(attribute[2:], tcaKind)
	copy(attribute[unix.SizeofRtAttr:], name)
	return message
}
