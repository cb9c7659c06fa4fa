// Package engine captures and restores the containers of a pod on this node. It knows folders, processes and an OCI runtime, but neither
// Kubernetes nor the storage, and works when both are down.
//
// Start reading at Engine.Capture (capture.go) and Engine.Restore (restore.go). Around them stand what they are made of: container.go, what
// is remembered of a container; oci.go, the calls of the OCI runtime; cgroup.go, the freezer; limit.go, limits that are lifted; slot.go,
// how much is done at once; sockets.go, connections to the outside;
// tree.go, file trees to a tar and back; overlay.go and volume.go, a new container's files; security.go, what an image may do; signals.go and
// settle.go, the stop signals that a capture owes.
package engine
