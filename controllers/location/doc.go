// Package location tries CheckpointStorageLocations, when they change and every few minutes, and says in their condition Available what came
// of it.
//
// It imports the storage port alone; cmd hands it the function that opens a store. Start reading at Reconcile.
package location
