// Package storage is the port through which the project keeps objects: named sequences of bytes in a bucket or something like it.
//
// It holds the interface Store, the rules for keys, the body of a put and the errors that all stores share. It knows no Kubernetes, no SDK
// and no checkpoint; it imports the standard library alone. Below it stand
//
//   - storage/s3: S3-compatible servers,
//   - storage/filesystem: a directory,
//   - storage/retry: a Store that repeats what failed for a moment,
//   - storage/limit: a Store that keeps to a bandwidth,
//   - storage/observe: a Store that tells of each call, for metrics,
//   - storage/turn: who goes first where transfers wait for each other,
//   - storage/storagetest: the suite that every Store has to pass,
//   - storage/image: checkpoints as objects, above this port.
//
// Start reading at Store in store.go.
package storage
