// Package engine captures and restores the containers of a pod on this node. It knows folders and processes, but neither Kubernetes nor
// the storage, and works when both are down.
//
// So far it holds the copying of file trees (tree.go): root file systems, /dev/shm and emptyDirs, with owners, links, attributes and an
// overlay's removals, out of a pod and defensively into another. What comes next is in docs/designs/0002-capture-and-restore.md.
package engine
