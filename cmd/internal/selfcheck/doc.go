// Package selfcheck is what a program of ours finds out about itself in a cluster, manager and agent alike: whether it has the rights that the manifests of its
// version give it, and whether its clock is right. It is asked by kubectl checkpoint doctor.
package selfcheck
