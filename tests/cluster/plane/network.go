package plane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// setUpNetwork makes the network that the nodes are joined by: a bridge with the control plane's address, in the namespace of the
// supervisor, and a route to the pods of every node that there may be. It forwards between the nodes.
func setUpNetwork() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = spec.Bridge
	bridge := &netlink.Bridge{LinkAttrs: attributes}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	address, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", spec.PlaneIP, spec.NodeNetBits))
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(bridge, address), netlink.LinkSetUp(bridge)); err != nil {
		return fmt.Errorf("set up bridge: %w", err)
	}
	for index := 1; index <= spec.MaxNodes; index++ {
		node := spec.Node{Index: index}
		_, pods, err := net.ParseCIDR(node.PodCIDR())
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: bridge.Attrs().Index, Dst: pods, Gw: net.ParseIP(node.IP())}); err != nil {
			return fmt.Errorf("route to the pods of node %d: %w", index, err)
		}
	}
	return setSysctls(map[string]string{
		"net/ipv4/ip_forward":                "1",
		"net/ipv4/conf/all/send_redirects":   "0", // packets between nodes leave by the interface they came in by
		"net/ipv4/conf/nodes/send_redirects": "0",
	})
}

func setSysctls(values map[string]string) error {
	for name, value := range values {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// connectNode joins the network namespace of a process to the bridge; inside it the link is called eth0. An end that an earlier
// life of the node left behind is removed first.
func connectNode(node spec.Node, pid int) error {
	bridge, err := netlink.LinkByName(spec.Bridge)
	if err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = node.Link()
	attributes.MasterIndex = bridge.Attrs().Index
	if old, err := netlink.LinkByName(attributes.Name); err == nil {
		_ = netlink.LinkDel(old) // it goes with the old namespace, perhaps just now
	}
	veth := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("connect node %q: %w", node.Name, err)
	}
	return netlink.LinkSetUp(veth)
}

// forward passes each connection of a listener, which may belong to another network namespace, on to an address in this one.
func forward(listener net.Listener, address string) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Printf("forward to %s: %v", address, err)
			if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EINVAL) {
				return
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go pass(connection, address)
	}
}

func pass(outer net.Conn, address string) {
	defer outer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	inner, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return // the caller sees its connection end, as with any server that is down
	}
	defer inner.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyHalf(inner, outer)
	}()
	copyHalf(outer, inner)
	<-done
}

// copyHalf copies one direction and then says that nothing more comes that way.
func copyHalf(to, from net.Conn) {
	_, _ = io.Copy(to, from) // either end may go at any time
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
}
