// Package location tries CheckpointStorageLocations, when they change and every few minutes, and says in their condition Available what came
// of it. Of those that say so it makes the Checkpoints anew whose states are in the bucket, and says in their condition Synced what came of that.
//
// It imports the storage port and storage/image, which reads what a state says of itself; cmd hands it the function that opens a store. Start reading at
// Reconciler.Reconcile, and at Syncer.Reconcile for the second.
package location
