// Package install brings the operator onto a local cluster as a person would: it loads the images that `make images` writes, makes a bucket
// on the cluster's MinIO, applies manifests/default with kustomize, and waits until every node is ready for labelled pods. The demo, the
// end-to-end tests and the benchmarks use it.
//
// Start reading at Install.
package install
