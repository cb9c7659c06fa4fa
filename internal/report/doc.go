// Package report says to a person what the objects of the operator mean: which pods are protected, what a pod would be restored from and why one started cold,
// what there is of each workload, and how far a capture has come. It reads nothing: a Snapshot has all that it speaks of, and what it says of the future is
// what internal/matching would decide, the same rules that the agents go by.
//
// Start reading at Snapshot, then why.go. Each report is a struct, which is what is printed as JSON, with a method Write, which prints it for a person.
package report
