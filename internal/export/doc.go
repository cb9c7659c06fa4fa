// Package export writes a captured container as the checkpoint archive that podman, CRI-O and containerd make, and that checkpointctl reads
// (https://github.com/checkpoint-restore/checkpointctl). It takes the files of a capture as an fs.FS: the folder on a node (os.DirFS), or a checkpoint in a
// bucket (Files of storage/image), which it streams.
//
// What a capture does not have the archive cannot have: spec.dump holds what a capture notes of a container's OCI spec (names, rights, destinations of
// bind mounts), not its command, environment or sources of mounts; nor is it known when the container was created. What containers of a pod share, /dev/shm
// and emptyDirs, is in the archive of each.
//
// It may import what internal may, and no storage. Start reading at Open.
package export
