// Package parts builds what a local cluster is made of: every server from a go.mod of its own in a folder below this one, CRIU and the
// nodes' file tree from Debian's packages. What was built once is kept in a cache outside the source tree, under a key made of all
// that went into it.
//
// Start reading at Builder.Ensure.
package parts
