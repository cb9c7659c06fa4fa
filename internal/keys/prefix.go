package keys

// StorageFolder is the folder, in the bucket of a location, in which the states of all Checkpoints of a lineage lie: what is the same in them is there
// once. A state's name in it is the UID of its Checkpoint. It ends without a slash.
func StorageFolder(namespace, lineage string) string {
	return "checkpoints/" + namespace + "/" + lineage
}
