// Package proc keeps programs running: it starts them, writes their output to a log file each, starts again what dies, and lets a
// caller stop, start, kill or restart each by name, in the process or over a unix socket.
//
// Both supervisors of a local cluster, the one of the control plane and the init of each node, are a Group; start reading there.
package proc
