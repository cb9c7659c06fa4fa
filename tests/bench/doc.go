// Command bench measures the operator against what one would do without it, on a local cluster: `make bench`.
//
// Each row is the median of alternated pairs on one node, ours and the reference in turn, so that both meet the same machine:
//
//   - capture/frozen: for how long a process with 2 GiB of memory stands still, against `runc checkpoint` of the same program.
//   - restore/total: how long the runtime takes to have it again, against `runc restore`.
//   - delete-to-durable: from the deletion of its pod to its state in the bucket, against kubelet's checkpoint endpoint and a parallel PUT of
//     its tar. (The reference leaves the process running, and its state moves on.)
//   - restore/from-bucket: from the creation of the new pod, on another node, to its first number, against a parallel GET of the pages and `runc
//     restore`.
//   - runtime/passthrough: a call of the OCI runtime through ours, against the same call of runc.
//   - store/*: the image store alone, on the node, against PUT and GET of the same pages by the SDK: in parts of 64 MiB, four at once.
//
// It says the processor's seconds for each GiB beside, and the most anonymous memory of who uploads and fetches: itself, and the agents.
//
// It runs twice: on the machine, where it drives the cluster (drive.go, ours.go, kubelet.go), and as a copy of itself on the node, where it
// runs runc by hand (raw.go), measures the image store (store.go), puts a file into the bucket (put.go) and times calls (passthrough.go). Rows and
// their bars are in table.go.
package main
