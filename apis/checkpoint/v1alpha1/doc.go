// Package v1alpha1 is the API of the operator: group checkpoint.memverge.ai, version v1alpha1.
//
// Each kind has a file of its own, which also holds the types and reasons of its conditions: nobody writes one as an inline string. Rules
// that need no look at the cluster are in the schema (bounds, enums, CEL); a rule that must hold between writers that do not know each
// other, as "a claim passes to another pod only after it was released", is there too, so that the API server keeps it.
//
// It imports nothing but the standard library, k8s.io/api and k8s.io/apimachinery. Start reading at Checkpoint.
//
// +kubebuilder:object:generate=true
// +groupName=checkpoint.memverge.ai
// +groupGoName=Checkpoint
package v1alpha1
