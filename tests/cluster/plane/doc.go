// Package plane is the supervisor of a local cluster: process 1 of the cluster's own PID namespace, with its own network and mount
// namespace. It runs etcd, the Kubernetes control plane, MinIO and the image registry, starts the nodes, and answers the command line
// on a unix socket. When it ends, however it ends, the kernel ends everything else.
//
// Start reading at Supervisor.Run.
package plane
