package vm

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

const (
	memoryMiB  = 2048
	processors = 2
)

// kernelArguments have the machine say what it does on its serial line, which is the node's log, and end when its kernel panics. Mitigations protect
// nobody under emulation and cost much.
var kernelArguments = []string{
	"root=/dev/vda", "rw", "console=ttyS0", "quiet", "panic=-1", "mitigations=off", "net.ifnames=0", "systemd.log_color=0", "systemd.show_status=0",
}

// disk is where a node's disk lies.
func disk(c spec.Cluster, n spec.Node) string { return filepath.Join(c.NodeDir(n.Name), "disk.img") }

// Argv is the command of a node: it runs while the machine is on. The link must be there, see Plug. KVM is not asked for: where it is offered to a guest
// like the developers' machine, Debian's kernel does not boot under it.
func Argv(c spec.Cluster, n spec.Node, machine string) []string {
	return []string{
		"qemu-system-x86_64", "-name", n.Name, "-accel", "tcg,thread=multi,tb-size=512", "-machine", "q35", "-cpu", cmp.Or(n.CPU, spec.DefaultCPU),
		"-smp", fmt.Sprint(processors), "-m", fmt.Sprint(memoryMiB), "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
		"-kernel", filepath.Join(machine, "vmlinuz"), "-initrd", filepath.Join(machine, "initrd.img"), "-append", strings.Join(kernelArguments, " "),
		"-drive", "file=" + disk(c, n) + ",if=none,id=root,format=raw,cache=unsafe,discard=unmap", "-device", "virtio-blk-pci,drive=root",
		"-netdev", "tap,id=net,script=no,downscript=no,ifname=" + n.Link(), "-device", "virtio-net-pci,netdev=net,mac=" + n.MAC(),
		"-device", "virtio-rng-pci",
	}
}

// Plug makes the link that the machine's network card is plugged into, at the bridge.
func Plug(n spec.Node) error {
	bridge, err := netlink.LinkByName(spec.Bridge)
	if err != nil {
		return err
	}
	if old, err := netlink.LinkByName(n.Link()); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return err
		}
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MasterIndex = n.Link(), bridge.Attrs().Index
	tap := &netlink.Tuntap{LinkAttrs: attributes, Mode: netlink.TUNTAP_MODE_TAP}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("make the link of node %q: %w", n.Name, err)
	}
	if err := netlink.LinkSetMaster(tap, bridge); err != nil {
		return err
	}
	return netlink.LinkSetUp(tap)
}
