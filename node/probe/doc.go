// Package probe looks at the processes of a running container for what CRIU refuses to dump, so that its user hears of it long before the pod is
// evicted. It changes nothing and stops nobody: it reads /proc, and asks the kernel for the sockets of the pod's network namespace (sock_diag), as
// ps and ss do. What it reports was tried on a real cluster (tests/e2e/detect_test.go, docs/compatibility.md): a container that can be dumped must
// never be reported.
//
// It imports internal/keys for the reasons, nothing of Kubernetes. Start reading at Look.
package probe
