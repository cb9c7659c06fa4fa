// Package vm makes a node of a local cluster that is a virtual machine: Debian's kernel, systemd, cgroup v2 and all capabilities, as users' nodes have
// them and this machine may not. It runs under qemu's software emulation, ten times slower than this machine, on the bridge that the other nodes are
// on. Killing qemu is a power cut.
//
// Start reading at Argv.
package vm
