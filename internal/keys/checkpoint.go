package keys

// Labels on Checkpoints, by which they are found. What they say is in the status, too; that counts where they differ, since users can change labels.
const (
	// Lineage has the value of status.source.lineage.
	Lineage = "checkpoint.memverge.ai/lineage"
	// Identity has the value of status.source.identity; it is absent where any pod of the lineage can be restored.
	Identity = "checkpoint.memverge.ai/identity"
	// Workload is the UID of the captured pod's controller, and of the Deployment where that has one: all revisions have it in common. For a plain pod it
	// is a hash of its name.
	Workload = "checkpoint.memverge.ai/workload"
	// PodUID is the UID of the captured pod.
	PodUID = "checkpoint.memverge.ai/pod-uid"
	// BeganFrom has the value of status.source.restoreFrom; it is absent where the captured pod named none.
	BeganFrom = "checkpoint.memverge.ai/restore-from"
	// SourceNode is on a Checkpoint of a pod that goes on, and tells the agent of that node to capture it: the node's name, or a hash of it if that is too long.
	SourceNode = "checkpoint.memverge.ai/source-node"
)

// CheckpointPin is a label with the value "true" on a Checkpoint that a person keeps: it ends by no rule, and not with its owner. It is a label so that
// what is pinned can be listed by it. It says nothing of restores: one that was restored keeps its data and is not restored again.
const CheckpointPin = "memverge.ai/checkpoint-pin"

// VerbRestore is the verb on checkpoints.checkpoint.memverge.ai, by the name of one, that whoever writes RestoreFrom has to be allowed.
const VerbRestore = "restore"

// Field managers of server-side apply. An apply removes what the same manager wrote before and leaves out now. So whoever writes a part of
// an object of its own has a name of its own.
const (
	// ManagerFields are those of the manager: the condition Ready, the source of a Checkpoint that it made, conditions of pods.
	ManagerFields = "checkpoint-manager"
	// PublishFields are those of the agent on the node of a capture: Captured, Uploaded, and what is in the Checkpoint.
	PublishFields = "checkpoint-agent-publish"
	// RetentionFields are those of the manager's retention: the condition Ready of a Checkpoint that has expired.
	RetentionFields = "checkpoint-manager-retention"
	// SyncFields are those of the manager's sync of locations: the condition Synced of a location, and all that is known of a Checkpoint that was made anew.
	SyncFields = "checkpoint-manager-sync"
)

// ClaimFields is the field manager under which an agent claims a Checkpoint for a pod, and releases it by applying no claim. Since every
// pod has its own, an agent that came too late cannot release what another holds.
func ClaimFields(podUID string) string { return "checkpoint-agent-claim-" + podUID }

// CheckpointFinalizer keeps a Checkpoint until its data is deleted.
const CheckpointFinalizer = "checkpoint.memverge.ai/data"

// SyncedFrom is an annotation on Checkpoints that were made anew from what is in a location: its name.
const SyncedFrom = "checkpoint.memverge.ai/synced-from"
