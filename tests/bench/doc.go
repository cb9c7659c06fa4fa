// Command bench measures the operator against what one would do without it, on a local cluster: `make bench`.
//
// Each row is the median of alternated pairs on one node, ours and the reference in turn, so that both meet the same machine:
//
//   - capture/frozen: for how long a process with 1 GiB of memory stands still, against `runc checkpoint` of the same program.
//   - restore/total: how long the runtime takes to have it again, against `runc restore`.
//   - delete-to-durable: from the deletion of its pod to its state in the bucket, against kubelet's checkpoint endpoint and a parallel PUT of
//     its tar. (The reference leaves the process running, and its state moves on.)
//   - runtime/passthrough: a call of the OCI runtime through ours, against the same call of runc.
//
// It runs twice: on the machine, where it drives the cluster (drive.go, ours.go, kubelet.go), and as a copy of itself on the node, where it
// runs runc by hand (raw.go), puts a file into the bucket (put.go) and times calls (passthrough.go). Rows and their bars are in table.go.
package main
