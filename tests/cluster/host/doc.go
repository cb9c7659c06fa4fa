// Package host is the machine that a local cluster runs on: its cgroup hierarchies, loop devices, capabilities and the processes
// behind unix sockets. It knows no cluster; names and paths come from the caller.
package host
