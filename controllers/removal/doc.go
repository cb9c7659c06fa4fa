// Package removal takes the operator out of a cluster so that nothing is lost by it and no pod is left that cannot start. The manager's image runs it as a
// Job, see manifests/uninstall and docs/installation.md.
//
// Start reading at Run: its steps are in the order in which they have to be. Each finds out by itself what is left to do, so that it can be killed at any
// instruction and run again.
package removal
