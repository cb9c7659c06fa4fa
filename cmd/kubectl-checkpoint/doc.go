// Command kubectl-checkpoint is a plugin of kubectl: in the PATH it is called as `kubectl checkpoint`. It reads and writes the objects of the operator with the
// rights of whoever calls it, and asks the operator's own pods for what only they reach, the buckets and the nodes.
//
// Start reading at root.go, which lists the commands; each has a file of its own. What they say is made by internal/report.
package main
