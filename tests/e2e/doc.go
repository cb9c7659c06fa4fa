// Package e2e holds the tests that run on a real cluster: real API server, kubelets, containerd, runc, CRIU and MinIO. TestMain brings
// one up that the tests share, each in a namespace of its own; a test that breaks a cluster brings up its own.
package e2e
