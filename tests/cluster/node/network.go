package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// setUpNetwork gives the node its address on the link that the supervisor moves into its namespace, and makes it forward for its pods.
func setUpNetwork(n spec.Node) error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	link, err := awaitLink("eth0", 10*time.Second)
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", n.IP(), spec.NodeNetBits))
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetUp(loopback), netlink.AddrAdd(link, address), netlink.LinkSetUp(link)); err != nil {
		return fmt.Errorf("set up eth0: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(spec.PlaneIP)}); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return err
	}
	// Answers to a Service's address must pass kube-proxy's rules also between two pods of one node. Kernels without the bridge
	// filter have no such file.
	_ = os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0)
	return nil
}

func awaitLink(name string, patience time.Duration) (netlink.Link, error) {
	deadline := time.Now().Add(patience)
	for {
		link, err := netlink.LinkByName(name)
		if err == nil || time.Now().After(deadline) {
			return link, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
