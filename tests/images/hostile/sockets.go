package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sockets are of families, types and states that CRIU refuses, and some that it should not.
var sockets = map[string]hold{
	"vsock":            socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	"xdp":              socket(unix.AF_XDP, unix.SOCK_RAW, 0),
	"alg":              socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
	"sctp":             socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP),
	"mptcp":            socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP),
	"key":              socket(unix.AF_KEY, unix.SOCK_RAW, 2),
	"packet":           socket(unix.AF_PACKET, unix.SOCK_RAW, 0x0300),
	"raw":              socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
	"ping":             socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP),
	"tcp-closed":       socket(unix.AF_INET, unix.SOCK_STREAM, 0),
	"udp-lite":         socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE),
	"netlink":          socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT),
	"netlink-unread":   netlinkUnread,
	"netlink-group-40": netlinkGroup,
	"unix-outside":     unixOutside,
	"unix-serve":       unixServe,
	"unix-self":        unixSelf,
	"unix-waiting":     unixWaiting(false, false),
	"unix-data":        unixWaiting(true, false),
	"unix-closed":      unixWaiting(true, true),
	"tcp-backlog":      tcpBacklog,
	"tcp-self":         tcpSelf,
	"udp-corked":       udpCorked,
}

func socket(family, kind, protocol int) hold {
	return func() (func() error, error) {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return nil, err
		}
		return closing(fd), nil
	}
}

// netlinkUnread asks for all links and reads no answer.
func netlinkUnread() (func() error, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	request := make([]byte, 32)
	request[0], request[4], request[6], request[7] = 32, unix.RTM_GETLINK, unix.NLM_F_REQUEST&0xff, unix.NLM_F_DUMP>>8
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	return func() error {
		_, _, err := unix.Recvfrom(fd, make([]byte, 1<<16), 0)
		return err
	}, nil
}

// netlinkGroup listens to a group whose number does not fit the 32 bits of the old interface.
func netlinkGroup() (func() error, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	const group = 34 // RTNLGRP_MCTP_IFADDR
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
		return nil, err
	}
	return closing(fd), nil
}

// outside is a socket that somebody else serves; a test mounts it there.
const outside = "/outside/socket"

func unixOutside() (func() error, error) {
	path := outside
	if other := os.Getenv("OUTSIDE"); other != "" {
		path = other
	}
	var last error
	for range 100 { // whoever serves it may be later
		connection, err := net.Dial("unix", path)
		if err == nil {
			return connection.Close, nil
		}
		last = err
		time.Sleep(100 * time.Millisecond)
	}
	return nil, last
}

func unixServe() (func() error, error) {
	_ = os.Remove(outside)
	listener, err := net.Listen("unix", outside)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			keep = append(keep, connection)
		}
	}()
	return listener.Close, nil
}

func unixSelf() (func() error, error) {
	listener, err := net.Listen("unix", "/self.socket")
	if err != nil {
		return nil, err
	}
	connection, err := net.Dial("unix", "/self.socket")
	if err != nil {
		return nil, err
	}
	accepted, err := listener.Accept()
	keep = append(keep, connection, accepted, listener)
	return nil, err
}

// unixWaiting connects to itself and does not accept. The connection has brought data, or was closed, or both.
func unixWaiting(withData, isClosed bool) hold {
	return func() (func() error, error) {
		listener, err := net.Listen("unix", "@waiting")
		if err != nil {
			return nil, err
		}
		connection, err := net.Dial("unix", "@waiting")
		if err != nil {
			return nil, err
		}
		keep = append(keep, connection, listener)
		if withData {
			_, err = connection.Write([]byte("early"))
		}
		if isClosed {
			err = errors.Join(err, connection.Close())
		}
		return func() error {
			accepted, err := listener.Accept()
			if err != nil {
				return err
			}
			keep = append(keep, accepted)
			if withData {
				_, err = accepted.Read(make([]byte, 8))
			}
			return err
		}, err
	}
}

// tcpBacklog connects to itself and does not accept.
func tcpBacklog() (func() error, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	connection, err := net.Dial("tcp4", listener.Addr().String())
	keep = append(keep, connection, listener)
	return func() error {
		accepted, err := listener.Accept()
		keep = append(keep, accepted)
		return err
	}, err
}

func tcpSelf() (func() error, error) {
	release, err := tcpBacklog()
	if err != nil {
		return nil, err
	}
	return nil, release()
}

func udpCorked() (func() error, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_CORK, 1); err != nil {
		return nil, fmt.Errorf("cork: %w", err)
	}
	return closing(fd), nil
}
