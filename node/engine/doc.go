// Package engine captures and restores the containers of a pod on this node. It knows folders, processes and an OCI runtime, but neither
// Kubernetes nor the storage, and works when both are down.
//
// Start reading at Engine.Capture (capture.go, then dump.go and finish.go) and Engine.Restore (restore.go). Around them stand what they are made of:
//
//   - container.go, what is remembered of a container; oci.go, the calls of the OCI runtime, and relay.go, which stands between it and CRIU;
//   - signals.go, stop.go and settle.go, the stop signals that a capture owes; exec.go, what is started in a pod meanwhile;
//   - cgroup.go, the freezer; limit.go, limits that are lifted; slot.go, how much is done at once;
//   - sockets.go, silence.go and filter.go, connections; together.go, containers that go on together; cutoff.go, restores that were killed;
//   - tree.go, extract.go and sparse.go, file trees to a tar and back; overlay.go, volume.go and mounts.go, a new container's files;
//   - rights.go, seccomp.go and security.go, what an image may do; image.go, how CRIU's images are changed, and beside it what in them.
package engine
