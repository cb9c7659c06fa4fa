package keys

// The reasons of a pod's condition DisruptionTarget where the operator writes it. It does so only for pods of Jobs that are being deleted.
const (
	// DisruptionWithCheckpoint: True; the pod is deleted, and its state is captured.
	DisruptionWithCheckpoint = "DeletionWithCheckpoint"
	// DisruptionCaptureFailed: False; the pod is deleted, and its state could not be captured.
	DisruptionCaptureFailed = "CaptureFailed"
)

// DisruptionFields is the field manager of that condition. Manager and agent share it: whoever comes first writes what both would.
const DisruptionFields = "checkpoint-disruption"
