// Package node is the inside of a node of a local cluster. Its init is process 1 of namespaces of its own (PID, mount, network, host
// name, IPC, cgroup), mounts a root file system of its own from a size-bound disk, and keeps containerd, kubelet and kube-proxy
// running. To everything that runs there it is a machine with default paths; killing its init is a power cut.
//
// Start reading at Init.
package node
