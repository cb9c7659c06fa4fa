// Package capture is the contract between the runtime, which captures and restores pods, and the agent, which publishes captures and
// decides restores: the folders on the node in which they meet, and the files in them. Both sides may be killed at any instruction, so
// every file and folder appears in one step.
//
// It imports no Kubernetes client and nothing of the two sides. Start reading at Capture and Decision.
package capture
