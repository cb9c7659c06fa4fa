// Package operator is what a cluster's administrator says for the whole operator, in one place that manager and agents read alike: the ConfigMap
// checkpoint-operator in the operator's own namespace. It has no Kubernetes client: who has one reads the ConfigMap, at each use, from a cache, and gives
// its data to a Keeper.
//
// Start reading at Parse.
package operator
