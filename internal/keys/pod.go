package keys

import "strings"

// Effective is the annotation into which admission writes the settings of a pod: capture.Settings as JSON. It is reserved: what a user writes
// there is overwritten. The runtime reads nothing else, since labels never reach an OCI spec.
const Effective = "memverge.ai/effective"

// NamespaceAsks is the label, with the value "true", that the manager gives a Namespace whose annotation CheckpointMode says so: webhooks are
// chosen by labels of Namespaces alone. It is reserved: the manager takes away what others write there.
const NamespaceAsks = "checkpoint.memverge.ai/asks"

// RestoreCounted is the annotation, with the value "true", of a pod whose condition Restored the manager has counted in its RestorePolicy.
const RestoreCounted = "memverge.ai/restore-counted"

// RuntimeClass is the name of the RuntimeClass that admission gives a labelled pod, and of the handler on the node that it stands for: a copy
// of the node's default handler with our binary.
const RuntimeClass = "transparent-checkpoint"

// IsRuntimeClass tells whether a RuntimeClass or handler is one of ours: the copy of the default one, or RuntimeClass-NAME, that of the node's handler NAME.
// Pods of the latter name it themselves.
func IsRuntimeClass(name string) bool {
	return name == RuntimeClass || strings.HasPrefix(name, RuntimeClass+"-")
}

// NodeReady is the label that the agent gives a node, with the value "true", on which labelled pods can be captured and restored; the
// RuntimeClass sends them there.
const NodeReady = "memverge.ai/checkpoint-ready"

// NodeClass is the label that the agent gives a node: the same value for nodes on which the same captured programs can go on. A new pod for which
// there is a Checkpoint prefers those on which it can. NodeFacts is the annotation with what the class was made of: compat.Facts as JSON.
const (
	NodeClass = "memverge.ai/checkpoint-node-class"
	NodeFacts = "memverge.ai/checkpoint-node-facts"
)

// GracefulShutdown is the label that the agent gives a node: "true" where kubelet has pods captured, and their states sent, before the node shuts down,
// "false" where it does not, and Unknown. The annotation of the same name says why, and how long it waits.
const (
	GracefulShutdown = "memverge.ai/graceful-shutdown"
	Unknown          = "unknown"
)

// Restored is the condition of a labelled pod that says whether it continued from a Checkpoint. The agent writes it from what the runtime
// recorded: a restore is proven by it, never assumed. Its reason is one of the Restored… and Cold… constants.
const Restored = "memverge.ai/Restored"

// The reasons of the condition Restored.
const (
	// RestoredFromCheckpoint: True; the message names the Checkpoint.
	RestoredFromCheckpoint = "RestoredFromCheckpoint"
	// RestoredFromPrevious: True; the pod goes on from an older Checkpoint, as the RestorePolicy's fallback Previous says. The message names both, and
	// says why the newer one did not serve.
	RestoredFromPrevious = "RestoredFromPrevious"
	// ColdNoCheckpoint: False; no Checkpoint of this lineage and identity can be claimed.
	ColdNoCheckpoint = "NoCheckpoint"
	// ColdTemplateChanged: False; there are Checkpoints of the owner, of another revision of its template only, or the one that is named is.
	ColdTemplateChanged = "TemplateChanged"
	// ColdCheckpointTooOld: False; the only Checkpoints are older than the RestorePolicy's maxAge.
	ColdCheckpointTooOld = "CheckpointTooOld"
	// ColdRestoreDisabled: False; the label memverge.ai/restore-mode or the RestorePolicy says so.
	ColdRestoreDisabled = "RestoreDisabled"
	// ColdRestoreFailed: False; a Checkpoint was claimed and could not be restored. The message is CRIU's first error line.
	ColdRestoreFailed = "RestoreFailed"
	// ColdEncryptionKeyMissing: False; the state is encrypted with a key that the Checkpoint's location does not have.
	ColdEncryptionKeyMissing = "EncryptionKeyMissing"
	// ColdRestarted: False; it was restored, and a container ended since and was started anew, from scratch.
	ColdRestarted = "ContainerRestarted"
	// ColdWaitTimeout: False; the state that the pod waited for did not come in time.
	ColdWaitTimeout = "WaitTimeout"
	// ColdSecurityContextMismatch: False; the captured processes have rights or mounts that the new pod's security context and volumes do not give.
	ColdSecurityContextMismatch = "SecurityContextMismatch"
	// ColdAgentUnavailable: False; no agent answered on the node for as long as the runtime may wait.
	ColdAgentUnavailable = "AgentUnavailable"
	// ColdIncompatible: False; the processor of the node, or its architecture, lacks what the captured program needs.
	ColdIncompatible = "Incompatible"
	// ColdCheckpointNotFound: False; the RestorePolicy names a Checkpoint that there is not.
	ColdCheckpointNotFound = "CheckpointNotFound"
	// ColdCheckpointNotReady: False; of the Checkpoint that the RestorePolicy names nothing can be restored: it failed, was discarded, or is deleted.
	ColdCheckpointNotReady = "CheckpointNotReady"
	// ColdCheckpointClaimed: False; another pod has the Checkpoint that the RestorePolicy names, or was restored from it.
	ColdCheckpointClaimed = "CheckpointClaimed"
	// ColdOtherLineage: False; the Checkpoint that the RestorePolicy names is of another owner, or of another place in it.
	ColdOtherLineage = "OtherLineage"
	// ColdVolumeAdvanced: False; the state that there is to go on from is older than what a volume of the pod holds.
	ColdVolumeAdvanced = "VolumeAdvanced"
	// ColdOtherVolume: False; the state is kept in a volume that the pod does not have as its storage volume.
	ColdOtherVolume = "OtherVolume"
	// ColdVolumeStateLost: False; the file in the pod's storage volume that held the state is gone, or is not what was written.
	ColdVolumeStateLost = "VolumeStateLost"
	// ColdSourceRuns: False; the pod of which the RestorePolicy names a Checkpoint runs still: both would do the same work.
	ColdSourceRuns = "SourceRuns"
	// RestoreRefused: False, and the pod does not start, as the RestorePolicy's fallback Fail says. The message begins with the cause's reason.
	RestoreRefused = "RestoreRefused"
	// ColdIncomplete: False for now; some containers of the pod go on, and the others are not restored yet.
	ColdIncomplete = "RestoreIncomplete"
)

// Checkpointable is the condition of a labelled pod that says whether it will be captured when it is terminated. Its reason is one of the
// Checkpointable… and Unprotected… constants.
const Checkpointable = "memverge.ai/Checkpointable"

// The reasons of the condition Checkpointable.
const (
	// CheckpointableProtected: True.
	CheckpointableProtected = "Protected"
	// CheckpointableIOUringAllowed: True, as long as the pod uses no io_uring; the annotation IOUring lets it.
	CheckpointableIOUringAllowed = "IOUringAllowed"
	// UnprotectedNotAdmitted: False; the pod was made while admission did not answer.
	UnprotectedNotAdmitted = "NotAdmitted"
	// UnprotectedOtherRuntimeClass: False; the pod names another RuntimeClass itself.
	UnprotectedOtherRuntimeClass = "OtherRuntimeClass"
	// UnprotectedHostNetwork, UnprotectedHostPID and UnprotectedHostIPC: False; the pod uses a namespace of its node.
	UnprotectedHostNetwork = "HostNetwork"
	UnprotectedHostPID     = "HostPID"
	UnprotectedHostIPC     = "HostIPC"
	// UnprotectedUserNamespace: False; hostUsers is false.
	UnprotectedUserNamespace = "UserNamespace"
	// UnprotectedSharedProcesses: False; its containers share their processes.
	UnprotectedSharedProcesses = "SharedProcessNamespace"
	// UnprotectedBlockDevice: False; a captured container has a raw block device.
	UnprotectedBlockDevice = "BlockDevice"
	// UnprotectedDevice: False; a captured container has a GPU or another device by a device plugin.
	UnprotectedDevice = "Device"
	// UnprotectedResourceClaim: False; a captured container has devices by a resource claim.
	UnprotectedResourceClaim = "ResourceClaim"
	// UnprotectedWindows: False; the pod runs on Windows.
	UnprotectedWindows = "WindowsPod"
	// UnprotectedNothingSelected: False; none of its containers is captured.
	UnprotectedNothingSelected = "NothingSelected"
	// UnprotectedPaused: False; its CheckpointPolicy is paused, and the agent has told the runtime so.
	UnprotectedPaused = "Paused"
	// UnprotectedMirrorPod: False; the pod comes from a file on its node.
	UnprotectedMirrorPod = "MirrorPod"
	// UnprotectedNoReadyNode: False; no node that the pod could run on has the label NodeReady.
	UnprotectedNoReadyNode = "NoReadyNode"
)

// The reasons of the condition Checkpointable that the agent finds in the processes of a pod that runs: False, as CRIU refuses to dump it. They
// go when what was found has gone.
const (
	// UnprotectedIOUring: a process uses io_uring, which its pod was allowed.
	UnprotectedIOUring = "IOUring"
	// UnprotectedDescriptor: a process holds a descriptor of a kind that cannot be dumped, such as a userfaultfd or a counter of perf.
	UnprotectedDescriptor = "UnsupportedDescriptor"
	// UnprotectedDeviceInUse: a process has a device open or mapped.
	UnprotectedDeviceInUse = "DeviceInUse"
	// UnprotectedSocket: a process has a socket of a family or with settings that cannot be dumped.
	UnprotectedSocket = "UnsupportedSocket"
	// UnprotectedOutsideSocket: a process is connected to another container, or to the node, by a unix socket.
	UnprotectedOutsideSocket = "OutsideSocket"
	// UnprotectedUnread: a process leaves messages unread, or connections unaccepted, that cannot be dumped.
	UnprotectedUnread = "UnreadMessages"
	// UnprotectedTraced: a process is traced by a debugger.
	UnprotectedTraced = "Traced"
	// UnprotectedNestedNamespace: a process has a namespace of its own, as of a container inside the container.
	UnprotectedNestedNamespace = "NestedNamespace"
	// UnprotectedMount: a file system was mounted inside the container that cannot be mounted anew.
	UnprotectedMount = "UnsupportedMount"
	// UnprotectedMessageQueue: there is a POSIX message queue.
	UnprotectedMessageQueue = "MessageQueue"
	// UnprotectedDeadLeader: the main thread of a process has ended before the others.
	UnprotectedDeadLeader = "DeadThreadLeader"
	// UnprotectedLargeDeletedFile: a process has a deleted file open that is too large to be kept.
	UnprotectedLargeDeletedFile = "LargeDeletedFile"
	// UnprotectedDetachedFile: a process has a file open that no path in its container leads to.
	UnprotectedDetachedFile = "DetachedFile"
)

// The reasons of the condition Checkpointable with which it is True and a person should look all the same.
const (
	// CheckpointableChanged: it will be captured, and something of it comes back otherwise than it was.
	CheckpointableChanged = "ComesBackChanged"
	// CheckpointableVolumeSize: the state takes more by now than CheckpointVolumeSize allows; a capture would fail.
	CheckpointableVolumeSize = "VolumeSizeExceeded"
	// CheckpointableNearVolumeSize: the state takes most of what CheckpointVolumeSize allows.
	CheckpointableNearVolumeSize = "NearVolumeSize"
	// CheckpointableNoSpace: the state takes more by now than the disk of the node has room for.
	CheckpointableNoSpace = "NoSpace"
)
