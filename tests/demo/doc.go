// Command demo shows the operator at work on a local cluster: a process survives the deletion of its pod. `make demo` runs it.
//
// Start reading at main.go.
package main
