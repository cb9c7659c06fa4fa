// Package integration holds the tests of the API on a real API server: defaults, rules, printer columns, the status subresource and who may
// write which part of it. TestMain brings up a local cluster of one node and installs manifests/crd/bases in it.
package integration
