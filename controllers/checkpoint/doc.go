// Package checkpoint puts together, in a Checkpoint's condition Ready, what the agents report of a capture, and deletes the data of a
// Checkpoint that is deleted.
//
// It imports the storage port and the format above it; cmd hands it the function that opens a store. Start reading at Reconcile; the rule is
// judge.
package checkpoint
