// Package location turns a CheckpointStorageLocation into the storage.Store behind it. It is the only place that knows both the API type and
// the adapters; the agent and the controllers get Open as a value from their main functions.
package location
