// Package settings finds out what the keys of a pod come to: those in the environment of its containers, its own annotations and labels, and those of its
// Namespace, of which the first that says something counts. docs/keys.md lists the keys, docs/designs/0014-keys.md gives the reasons.
//
// It reads what it is given and asks nobody. Start reading at Resolve.
package settings
