// Command scale (make scale) fills a cluster's API with labelled pods and Checkpoints in steps, and prints for each what it costs: admission, the manager's
// work, its memory, requests to the API server. The pods are of nodes that are none, so nothing runs in them; manager and API server are real.
//
// main.go has the steps, fill.go makes the objects, figures.go reads what the manager says of itself, table.go prints.
package main
