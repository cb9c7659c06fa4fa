// Package restorepolicy says of each RestorePolicy whether it applies. What it makes of pods is counted by package pod.
//
// Start reading at Reconcile.
package restorepolicy
