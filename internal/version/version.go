// Package version says of which version a program of ours is.
package version

// Version is written by the linker when a release is built (manifests/images); a program that was built in another way is of the version dev.
var Version = "dev"
