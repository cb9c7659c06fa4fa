// Package inspection looks into buckets for kubectl checkpoint: whether a state is as it was written, what the states take, the logs and the archive of one.
// The manager's program does that when it is called with the word inspect, in a container of a manager that runs.
//
// It changes nothing, in the cluster or in a bucket, and takes little memory beside the manager's own: one state at a time, and of that a few pieces. It
// imports nothing of the other controllers. Start reading at Inspector.
package inspection
