// Package lifecycle tests what happens before and after the operator does its work: the page that gets people started is run as it stands, the operator is
// upgraded from the previous commit while pods are captured, and it is removed while pods run. It has a cluster of its own, since all that is about the whole
// of it.
package lifecycle
