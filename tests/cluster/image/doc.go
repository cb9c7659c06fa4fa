// Package image makes container images without a container engine, from a static binary or from Debian's packages, and serves them to
// the nodes as the one registry that they know.
package image
