// Package pod looks after labelled pods: it spawns the RestorePolicy of their owner, makes the Checkpoint of one that is terminated, says of
// one that is not protected why, and counts what became of those that were to be restored. A Job's pods it marks as disrupted, so that their ends do
// not count as failures, and tells the Job where they do.
//
// Start reading at Reconciler.Reconcile.
package pod
