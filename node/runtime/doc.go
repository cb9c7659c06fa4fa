// Package runtime is the front of an OCI runtime: it understands as much of runc's command line as it needs to, passes every call on by exec, and
// steps in where a labelled pod is concerned: create waits for the decision and restores, kill captures, exec is refused during a capture.
// It is one process per call, with no daemon, no Kubernetes client and no network.
//
// Start reading at Main. words.go is the command line, create.go and gate.go, kill.go and exec.go are the verbs.
package runtime
