// Package pod looks after labelled pods: it spawns the RestorePolicy of their owner, makes the Checkpoint of one that is terminated, says of
// one that is not protected why, and counts what became of those that were to be restored. A Job's pods it marks as disrupted, so that their ends do
// not count as failures, and tells the Job where they do.
//
// The counters of a RestorePolicy are not written by server-side apply, as all else in a status is: who applies a number says what it is, and can only say
// that if nobody else has counted since. So a counter is read from the API server and patched under the version that was read; of two managers that
// count at once, one gets a conflict, and reads again. The patch holds the counter alone: conditions that another writes meanwhile stay, and fields that
// an older manager does not know, too. That no pod is counted twice is seen to by an annotation on the pod, written before in the same way.
//
// Pods without any label, whose Namespace asks for them, are not in the manager's cache: admission gives them a label, and those that it missed are looked
// for now and then, see namespaces.
//
// Start reading at Reconciler.Reconcile.
package pod
