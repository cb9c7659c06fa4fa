package keys

import "strings"

// StorageRoot is what the names of all folders of states begin with, before a slash.
const StorageRoot = "checkpoints"

// DiagnosisRoot is the same for archives of logs, DIAGNOSISROOT/NAMESPACE/NAME.tar.gz, of pods that ask for them. Nothing deletes those.
const DiagnosisRoot = "diagnosis"

// StorageFolder is the folder, in the bucket of a location, in which the states of all Checkpoints of a lineage lie: what is the same in them is there
// once. A state's name in it is that of Checkpoint.StorageName, the UID of its Checkpoint as a rule. It ends without a slash.
func StorageFolder(namespace, lineage string) string {
	return StorageRoot + "/" + namespace + "/" + lineage
}

// OfStorageFolder returns of which namespace and lineage a folder is; false if it is none of ours.
func OfStorageFolder(folder string) (namespace, lineage string, ok bool) {
	namespace, lineage, ok = strings.Cut(strings.TrimPrefix(folder, StorageRoot+"/"), "/")
	return namespace, lineage, ok && folder == StorageFolder(namespace, lineage) && !strings.Contains(lineage, "/")
}
