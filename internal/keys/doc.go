// Package keys holds the names by which the operator's parts, Kubernetes and its users know each other: labels, annotations, conditions of
// pods with their reasons, the RuntimeClass, field managers. Names that belong to a kind of the operator stand beside that kind, in apis.
//
// It imports nothing, so that everybody may import it. Start reading at user.go, which has what users write.
package keys
