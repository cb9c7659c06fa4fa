// Package image keeps checkpoints in a storage.Store: a directory becomes objects below a prefix, and objects become a directory again.
//
// It is the first, simple format, as docs/storage-format.md describes it: files in chunks that are named by their SHA-256, compressed where it
// pays, and a manifest that is written last. It imports the port, x/sync, s2 and the standard library; it knows neither Kubernetes nor what
// the files mean, but for one thing: the agent's own notes at the top of the directory are left out (see Upload).
//
// Start reading at Upload in upload.go and Fetch in fetch.go. What comes from a bucket is not trusted: parseManifest in manifest.go has the
// checks.
package image
