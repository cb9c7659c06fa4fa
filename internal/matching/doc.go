// Package matching says which Checkpoint a new pod is restored from, if any, and by which RestorePolicy (design M1 to M4). It is a rule over
// objects that others have read: it asks nobody, and writes nothing, so that the agent that decides and whoever explains the decision
// come to the same.
//
// Start reading at Choose.
package matching
