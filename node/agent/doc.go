// Package agent is the DaemonSet's process: it publishes what the runtime captured on its node, uploads it, decides what a new pod of the node
// is restored from, fetches that, and reports what became of it. It meets the runtime on disk alone (internal/capture), and may be killed at any
// instruction: what it did stands on the disk, in the API or in the bucket.
//
// It imports the storage port and the image format, no adapter. Start reading at Agent; publish.go and upload.go are the way out, pod.go,
// decide.go and fetch.go the way in, result.go what came of it, probe.go and verdict.go what keeps a
// running pod from being captured. How the runtime gets onto the node is in node/install.
package agent
