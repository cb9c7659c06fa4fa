// Package retention ends Checkpoints that nothing will be restored from any more: too old ones, those behind newer ones, those that were restored,
// and those of Jobs that have completed or of ReplicaSets that a rollout has replaced. First it says in the condition Ready that a Checkpoint is
// Expired, so that no pod is restored from it; a minute later it deletes the object, and by its finalizer the data goes (package checkpoint). Whether a
// Checkpoint goes with its owner is the garbage collector's to see to: this package keeps the ownerReference as the CheckpointPolicy says.
//
// Start reading at judge, which is the rule; Reconcile carries out what it says for one namespace at a time.
package retention
