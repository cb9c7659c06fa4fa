// Package debian gets what a local cluster takes from Debian's packages: a base tree, layers of further packages above it, and a CRIU
// that brings its own libraries. Nothing of it is installed on the machine, and where the packages come from is the machine's own
// apt configuration. It runs debootstrap, apt-get, dpkg-deb and patchelf, and needs root.
package debian
