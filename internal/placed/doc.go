// Package placed is the account of what an installation has written on a node outside of its own folders, and how that is taken back. The agent keeps it
// (node/install), and the runtime goes by it when it outlives the agent (node/runtime).
//
// Start reading at Record. It imports internal/capture alone.
package placed
