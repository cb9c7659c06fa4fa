// Package restorepolicy says of each RestorePolicy whether it applies, and whether another decides in its place. What it makes of pods is counted by
// package pod, with which it shares the status: this one applies the conditions and observedGeneration server-side, and names nothing else, so that it
// needs not know the counters; that one patches one counter at a time, and names nothing else (see there for why a counter cannot be applied).
//
// Start reading at Reconcile.
package restorepolicy
