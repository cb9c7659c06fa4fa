package keys

// StoragePrefix is what the names of all objects begin with that hold the state of a Checkpoint, in the bucket of its location. It ends
// without a slash.
func StoragePrefix(namespace, checkpointUID string) string {
	return "checkpoints/" + namespace + "/" + checkpointUID
}
