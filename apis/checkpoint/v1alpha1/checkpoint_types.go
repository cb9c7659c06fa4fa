package v1alpha1

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The types of a Checkpoint's conditions. CheckpointReady is the one to wait for.
const (
	// CheckpointCaptured is written by the agent of the source pod's node. True: the state is on the node's disk, complete and fsynced, and
	// the processes may be gone. False for good: nothing was captured, for the reason given; the process got its stop signal.
	CheckpointCaptured = "Captured"
	// CheckpointUploaded is written by the agent of the source pod's node. True: the state is in the bucket, manifest included, or in the pod's storage
	// volume, see status.volume.
	CheckpointUploaded = "Uploaded"
	// CheckpointReady is written by the manager. True: a new pod of the same lineage can be restored from it. Its reason, one of the
	// State… constants, is the STATE column.
	CheckpointReady = "Ready"
	// CheckpointStalled is written by whoever cannot go on. True: nothing happens until a person does something; the message says what.
	CheckpointStalled = "Stalled"
)

// The reasons of the condition Ready of a Checkpoint, which are its states. All but StateCompleted go with the status False (or Unknown,
// before the manager has seen the Checkpoint).
const (
	// StatePending: the pod's stop signal has not come yet, or nobody has reported a capture.
	StatePending = "Pending"
	// StateDumping: the pod is frozen and is being written to the node's disk.
	StateDumping = "Dumping"
	// StateUploading: the state is safe on the node and on its way to the bucket.
	StateUploading = "Uploading"
	// StateCompleted: the state is in the bucket; Ready is True.
	StateCompleted = "Completed"
	// StateFailed: there is no state, and there will be none; Captured or Uploaded says why.
	StateFailed = "Failed"
	// StateExpired: no pod is restored from it any more, for the reason that the message gives: it is too old, of a revision that a rollout has
	// replaced, of an owner that has completed, or was restored already. It is deleted, with its data, a minute later.
	StateExpired = "Expired"
	// StateDiscarded: the state is not wanted: the pod ended by itself, went on, or has an owner or namespace that is gone.
	StateDiscarded = "Discarded"
)

// The reasons of the condition Captured, besides StatePending, StateDumping and StateCompleted. The runtime writes those of a failed dump
// into its capture file under the same names, and the agent carries them on.
const (
	// ReasonDumpFailed: CRIU refused; the message is its first error line.
	ReasonDumpFailed = "DumpFailed"
	// ReasonFilesFailed: the files of the pod could not be copied.
	ReasonFilesFailed = "FilesFailed"
	// ReasonFreezeFailed: the containers could not be frozen.
	ReasonFreezeFailed = "FreezeFailed"
	// ReasonHookFailed: a hook of preCheckpoint failed that says Fail for that.
	ReasonHookFailed = "HookFailed"
	// ReasonInterrupted: whoever captured was killed.
	ReasonInterrupted = "Interrupted"
	// ReasonNoSpace: the disk of the node cannot hold the state.
	ReasonNoSpace = "NoSpace"
	// ReasonVolumeSizeExceeded: the state is larger than the pod's label memverge.ai/checkpoint-volume-size allows.
	ReasonVolumeSizeExceeded = "VolumeSizeExceeded"
	// ReasonSourceExited: the processes had ended before the stop signal came.
	ReasonSourceExited = "SourceExited"
)

// The reasons of the condition Captured, and the first word of Ready's message, of a Checkpoint of a pod that goes on, when there is nothing to capture.
const (
	// ReasonSourceNotFound: there is no pod of that name, or it is gone.
	ReasonSourceNotFound = "SourceNotFound"
	// ReasonSourceReplaced: the pod of that name has another UID.
	ReasonSourceReplaced = "SourceReplaced"
	// ReasonSourceTerminated: the pod is being terminated, and another Checkpoint has its last state.
	ReasonSourceTerminated = "SourceTerminated"
	// ReasonSourceNotProtected: the pod cannot be captured; its condition memverge.ai/Checkpointable says why.
	ReasonSourceNotProtected = "SourceNotProtected"
	// ReasonSourceNotRunning: the pod did not begin to run in time.
	ReasonSourceNotRunning = "SourceNotRunning"
	// ReasonFreezeBudget: the pod would stand still for longer than its probes forgive.
	ReasonFreezeBudget = "FreezeBudget"
)

// The reasons of the condition Uploaded, besides StatePending, StateUploading and StateCompleted.
const (
	// ReasonCaptureFailed: there is nothing to upload; Captured says why.
	ReasonCaptureFailed = "CaptureFailed"
	// ReasonStorageUnavailable: the bucket does not answer or refuses; the state stays on the node, and the agent tries again.
	ReasonStorageUnavailable = "StorageUnavailable"
)

// The reasons of the conditions Uploaded and Stalled when there is no bucket to upload to. The state stays on the node until there is one.
const (
	// ReasonNoStorageLocation: no CheckpointStorageLocation has the role Default.
	ReasonNoStorageLocation = "NoStorageLocation"
	// ReasonLocationNotFound: there is no CheckpointStorageLocation of the name that the CheckpointPolicy says.
	ReasonLocationNotFound = "LocationNotFound"
	// ReasonLocationReadOnly: the location has the accessMode ReadOnly.
	ReasonLocationReadOnly = "LocationReadOnly"
)

// The reasons of the conditions Uploaded and Stalled when a state may not be stored for now. It stays on the node until it may.
const (
	// ReasonQuotaExceeded: the Checkpoints of the namespace take as much as they may.
	ReasonQuotaExceeded = "QuotaExceeded"
	// ReasonNamespaceNotAllowed: the namespace is not among those whose pods are captured.
	ReasonNamespaceNotAllowed = "NamespaceNotAllowed"
)

// ReasonNodeUnavailable is a reason of the condition Stalled: the state is only on a node that is gone or whose agent is silent. Besides it there
// are those of the condition Uploaded with which the agent cannot go on.
const ReasonNodeUnavailable = "NodeUnavailable"

// CheckpointTrigger is what a capture comes from.
// +kubebuilder:validation:Enum=Termination;Delete;Eviction;Drain;Preemption;NodePressure;NodeShutdown;Taint;Probe;Manual;Annotation;Interval;Schedule
type CheckpointTrigger string

// Why a pod is captured that goes on.
const (
	// TriggerManual: somebody made the Checkpoint by hand.
	TriggerManual CheckpointTrigger = "Manual"
	// TriggerAnnotation: the pod got the annotation memverge.ai/checkpoint-trigger.
	TriggerAnnotation CheckpointTrigger = "Annotation"
	// TriggerInterval: so much time has gone by since the pod was captured before, or began.
	TriggerInterval CheckpointTrigger = "Interval"
	// TriggerSchedule: the schedule of its CheckpointPolicy says so.
	TriggerSchedule CheckpointTrigger = "Schedule"
)

// IsLive tells whether the pod goes on after the capture.
func (t CheckpointTrigger) IsLive() bool {
	switch t {
	case TriggerManual, TriggerAnnotation, TriggerInterval, TriggerSchedule:
		return true
	}
	return false
}

// Why a pod is terminated, and captured by its stop signal. It is told by what was known when the Checkpoint was made, by the manager or, while that is
// away, by the agent.
const (
	// TriggerTermination: nobody saw why, as nobody saw the pod any more.
	TriggerTermination CheckpointTrigger = "Termination"
	// TriggerDelete: somebody deleted it: a person, or its controller, as in a rollout.
	TriggerDelete CheckpointTrigger = "Delete"
	// TriggerEviction: it was evicted by the API for evictions.
	TriggerEviction CheckpointTrigger = "Eviction"
	// TriggerDrain: the same from a node that is cordoned, as by kubectl drain or an autoscaler that takes the node away.
	TriggerDrain CheckpointTrigger = "Drain"
	// TriggerPreemption: it made room for a pod of a higher priority, by the scheduler or by the kubelet.
	TriggerPreemption CheckpointTrigger = "Preemption"
	// TriggerNodePressure: the kubelet evicted it, as its node ran out of memory, disk or process numbers, or it was over a limit of its own.
	TriggerNodePressure CheckpointTrigger = "NodePressure"
	// TriggerNodeShutdown: its node shuts down.
	TriggerNodeShutdown CheckpointTrigger = "NodeShutdown"
	// TriggerTaint: its node has a taint that it does not tolerate, as one that is not ready has.
	TriggerTaint CheckpointTrigger = "Taint"
	// TriggerProbe: the kubelet ended it as a liveness or startup probe failed, and does not start it again. What a probe gave up is restored only by
	// its name.
	TriggerProbe CheckpointTrigger = "Probe"
)

// CheckpointSpec says which pod is captured.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec is immutable"
// +kubebuilder:validation:XValidation:rule="has(self.sourcePodUID) || self.trigger in ['Manual', 'Annotation', 'Interval', 'Schedule']",message="sourcePodUID is needed for a pod that is terminated; trigger may be Manual without it"
// +kubebuilder:validation:XValidation:rule="self.postCheckpoint == 'Resume' || self.trigger in ['Manual', 'Annotation', 'Interval', 'Schedule']",message="postCheckpoint may be Stop only for a pod that goes on after the capture"
type CheckpointSpec struct {
	// sourcePodName is the name of the pod that is captured. It is in the Checkpoint's namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="sourcePodName must be the name of a pod"
	SourcePodName string `json:"sourcePodName"`

	// sourcePodUID is the UID of that pod: another pod of the same name is not captured. Without it the pod of that name is captured that runs.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	SourcePodUID types.UID `json:"sourcePodUID,omitempty"`

	// trigger is what the capture comes from: why the pod got its stop signal, or why it is captured though it goes on. Whoever makes a Checkpoint by
	// hand leaves it away.
	// +optional
	// +kubebuilder:default=Manual
	Trigger CheckpointTrigger `json:"trigger,omitempty"`

	// postCheckpoint says what becomes of a pod that goes on after its capture: with Stop it is evicted, as by kubectl drain, and captured once more when it
	// ends. A PodDisruptionBudget can put that off.
	// +optional
	// +kubebuilder:default=Resume
	PostCheckpoint PostCheckpoint `json:"postCheckpoint,omitempty"`
}

// PostCheckpoint says what becomes of a pod after its capture.
// +kubebuilder:validation:Enum=Resume;Stop
type PostCheckpoint string

// What becomes of it.
const (
	// PostCheckpointResume: it goes on.
	PostCheckpointResume PostCheckpoint = "Resume"
	// PostCheckpointStop: it is evicted.
	PostCheckpointStop PostCheckpoint = "Stop"
)

// CheckpointStatus says how far a capture has come, what is in it, and who has claimed it. Agents and manager write it with server-side
// apply under a field manager each (see internal/keys), so that none removes what another has written.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.source) || has(self.source)",message="source cannot be removed"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.manifestDigest) || has(self.manifestDigest)",message="manifestDigest cannot be removed"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.storageName) || has(self.storageName)",message="storageName cannot be removed"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.manifestDigest) || has(self.storageName) == has(oldSelf.storageName)",message="storageName is fixed"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.volume) || has(self.volume)",message="volume cannot be removed"
// +kubebuilder:validation:XValidation:rule="!has(self.volume) || !has(self.locationName) && !has(self.manifestDigest)",message="a state is kept in a volume or in a location, not in both"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.claim) || oldSelf.claim.phase != 'Consumed' || has(self.claim)",message="a consumed claim is for good"
type CheckpointStatus struct {
	// conditions are Captured, Uploaded, Ready and Stalled. The reason of Ready is the state of the Checkpoint.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// source is the pod as it was when the Checkpoint was made.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="source is immutable once set"
	Source *CheckpointSource `json:"source,omitempty"`

	// containers are those that were captured.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=128
	Containers []CheckpointContainer `json:"containers,omitempty"`

	// machine is what the captured program may depend on of the machine that it ran on. A RestorePolicy says how nodes are compared with it.
	// +optional
	Machine *CheckpointMachine `json:"machine,omitempty"`

	// captureTime is the moment of the cut: no instruction of the program ran after it in the source pod. The age of a Checkpoint, and
	// which is the newest, are told by it.
	// +optional
	CaptureTime *metav1.Time `json:"captureTime,omitempty"`

	// sizeBytes is what the state takes on the node, in bytes: memory, files and shared memory, before compression.
	// +optional
	// +kubebuilder:validation:Minimum=0
	SizeBytes *int64 `json:"sizeBytes,omitempty"`

	// size is sizeBytes for a person, rounded up to two or more digits of a binary unit, as 257Mi.
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`

	// uploadedBytes is how much of sizeBytes is in the bucket while the rest is on its way, told every few seconds. It is left out before and after.
	// +optional
	// +kubebuilder:validation:Minimum=0
	UploadedBytes *int64 `json:"uploadedBytes,omitempty"`

	// frozen is for how long the program stood still, as 412ms: from the first freeze to the end of its processes, or until they went on.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(h|m|s|ms|us|µs|ns))+$`
	Frozen *metav1.Duration `json:"frozen,omitempty"`

	// locationName is the name of the CheckpointStorageLocation that holds the state.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	LocationName string `json:"locationName,omitempty"`

	// storageName is the name under which the state lies in its location, in the folder of its lineage; without it that is the UID of the Checkpoint. A
	// Checkpoint has it that was made anew from what a location holds (see spec.syncInterval of CheckpointStorageLocation).
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][A-Za-z0-9._-]*$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="storageName is immutable once set"
	StorageName string `json:"storageName,omitempty"`

	// manifestDigest is the SHA-256 of the manifest in the bucket, which names every byte of the state. What does not fit it is not restored.
	// +optional
	// +kubebuilder:validation:MaxLength=71
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="manifestDigest is immutable once set"
	ManifestDigest string `json:"manifestDigest,omitempty"`

	// volume is the file in a volume of the pod that holds the state, in the place of a location: the pod's key memverge.ai/checkpoint-storage-volume says
	// so. The file stays when the Checkpoint is deleted.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="volume is immutable once set"
	Volume *CheckpointVolume `json:"volume,omitempty"`

	// claim is the new pod that is restored, or was, from this Checkpoint. While there is one, no other pod can be restored from it.
	// +optional
	Claim *CheckpointClaim `json:"claim,omitempty"`

	// hooks say what became of the hooks around the capture; without hooks it is not there. Those that are run in the restored pod are not counted.
	// +optional
	Hooks *CheckpointHookStatus `json:"hooks,omitempty"`

	// logTail is the end of the log of a capture that failed.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	LogTail string `json:"logTail,omitempty"`
}

// VolumeKind is a kind of volumes in which states can be kept.
// +kubebuilder:validation:Enum=PersistentVolumeClaim;HostPath;NFS
type VolumeKind string

// The kinds of volumes in which states can be kept.
const (
	// VolumePersistentVolumeClaim: source is the name of the claim, in the pod's namespace.
	VolumePersistentVolumeClaim VolumeKind = "PersistentVolumeClaim"
	// VolumeHostPath: source is the path of a folder of the node, and no other node has what lies there.
	VolumeHostPath VolumeKind = "HostPath"
	// VolumeNFS: source is the server and the path that it exports, as SERVER:PATH.
	VolumeNFS VolumeKind = "NFS"
)

// CheckpointVolume is the file in a volume of the captured pod that holds its state. Whoever can write to the volume can change it; what does not fit size and
// digest is not restored.
type CheckpointVolume struct {
	// name is the name of the volume in the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// kind is the kind of the volume.
	// +required
	Kind VolumeKind `json:"kind"`

	// source says which volume of that kind it is: the name of a claim, a path of the node, or SERVER:PATH.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Source string `json:"source"`

	// file is the name of the file, in the folder .transparent-checkpoint of the volume.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[a-z0-9][a-z0-9.-]*\.[a-z0-9-]+\.[0-9]{8}T[0-9]{6}-[0-9]+\.tar\.zst$`
	File string `json:"file"`

	// sizeBytes is the size of the file, in bytes.
	// +required
	// +kubebuilder:validation:Minimum=1
	SizeBytes int64 `json:"sizeBytes"`

	// contentBytes is what its content takes, in bytes, before compression: a file in which there is more is not restored.
	// +required
	// +kubebuilder:validation:Minimum=1
	ContentBytes int64 `json:"contentBytes"`

	// digest is the SHA-256 of the file.
	// +required
	// +kubebuilder:validation:MaxLength=71
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	Digest string `json:"digest"`
}

// String is the volume for a person.
func (v *CheckpointVolume) String() string {
	return fmt.Sprintf("volume %q (%s %s)", v.Name, v.Kind, v.Source)
}

// CheckpointSource is the captured pod, and its place in what its owner makes.
type CheckpointSource struct {
	// podUID is the UID of the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	PodUID types.UID `json:"podUID"`

	// node is the name of the node where the pod ran, and where its state is until it is uploaded.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`

	// owner is the controller that made the pod; a plain pod has none.
	// +optional
	Owner *Owner `json:"owner,omitempty"`

	// lineage is the same for all pods of one controller and one revision of its template: only those can be restored from this Checkpoint.
	// It is also the value of the label checkpoint.memverge.ai/lineage, which only serves to find it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`
	Lineage string `json:"lineage"`

	// identity is the pod's place inside its lineage: the name of a StatefulSet's pod, the completion index of an indexed Job's. Without
	// one, any pod of the lineage can be restored from this Checkpoint. It is also the value of the label checkpoint.memverge.ai/identity.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Identity string `json:"identity,omitempty"`

	// restoreFrom is the Checkpoint that the pod named by memverge.ai/restore-from: where its line began. Pods that name the same go on from what it left, and
	// pods that name another do not. It is also the value of the label checkpoint.memverge.ai/restore-from.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	RestoreFrom string `json:"restoreFrom,omitempty"`

	// labels are those of the pod. By them the CheckpointPolicy is found that says where the state is stored and for how long.
	// +optional
	// +kubebuilder:validation:MaxProperties=256
	Labels map[string]string `json:"labels,omitempty"`
}

// MaxSourceLabels is how many labels the source of a Checkpoint may have.
const MaxSourceLabels = 256

// Owner is a controller of pods, in the namespace of whoever refers to it.
type Owner struct {
	// apiVersion is the group and version of the owner's kind, as apps/v1.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	APIVersion string `json:"apiVersion"`

	// kind is the owner's kind, as StatefulSet.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// name is the owner's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// uid is the owner's UID: an owner that was deleted and made again under the same name is another one.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	UID types.UID `json:"uid"`
}

// CheckpointContainer is one captured container.
type CheckpointContainer struct {
	// name is the container's name in the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// image is the image that the container ran, as the pod named it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Image string `json:"image,omitempty"`

	// imageDigest is the digest of that image, where the node knew it by one.
	// +optional
	// +kubebuilder:validation:MaxLength=71
	// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
	ImageDigest string `json:"imageDigest,omitempty"`

	// memoryBytes is what the container's processes had in memory of their own, in bytes: the limit of a new container must leave room for it.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MemoryBytes *int64 `json:"memoryBytes,omitempty"`
}

// CheckpointMachine is what the captured program may depend on of the machine that it ran on.
type CheckpointMachine struct {
	// architecture is that of the processor, as Go names it: amd64.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Architecture string `json:"architecture"`

	// kernel is the kernel's release, as 6.12.43+deb13-amd64.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Kernel string `json:"kernel"`

	// pageSizeBytes is the size of a page of memory, in bytes.
	// +required
	// +kubebuilder:validation:Minimum=1
	PageSizeBytes int64 `json:"pageSizeBytes"`

	// instructions are the names of the extensions of the processor that programs choose their instructions by, as Linux names them, in order and
	// separated by spaces.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Instructions string `json:"instructions,omitempty"`

	// xsaveBytes is the room that the kernel needs to deliver a signal, in bytes, which grows with the registers that the processor has.
	// +optional
	// +kubebuilder:validation:Minimum=0
	XSaveBytes int64 `json:"xsaveBytes,omitempty"`

	// controlGroups is the version of the control groups that containers get there; nothing when that was not recorded.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2
	ControlGroups int32 `json:"controlGroups,omitempty"`
}

// ClaimPhase is how far the pod that claimed a Checkpoint has come.
// +kubebuilder:validation:Enum=Claimed;Consumed
type ClaimPhase string

// The phases of a claim.
const (
	// ClaimClaimed: the pod is going to be restored. The claim can be released, by removing it, as long as nothing of the pod has run.
	ClaimClaimed ClaimPhase = "Claimed"
	// ClaimConsumed: the first restored instruction may have run. The Checkpoint is never restored again, but for the fallback Previous of a
	// RestorePolicy, in place of the one that the pod left.
	ClaimConsumed ClaimPhase = "Consumed"
)

// CheckpointClaim is the right of one pod to be restored from a Checkpoint. The API server keeps it exclusive: as long as it is there, an
// attempt to write another pod into it is refused.
//
// +kubebuilder:validation:XValidation:rule="self.podUID == oldSelf.podUID",message="the Checkpoint is claimed by another pod"
// +kubebuilder:validation:XValidation:rule="self.podName == oldSelf.podName && self.node == oldSelf.node",message="podName and node of a claim are immutable"
// +kubebuilder:validation:XValidation:rule="oldSelf.phase != 'Consumed' || self.phase == 'Consumed'",message="a consumed claim stays consumed"
type CheckpointClaim struct {
	// podUID is the UID of the pod that is restored.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	PodUID types.UID `json:"podUID"`

	// podName is the name of the pod that is restored.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PodName string `json:"podName"`

	// node is the name of the node where that pod is restored; its agent holds the claim.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`

	// phase is Claimed until the first restored instruction may run, and Consumed from then on.
	// +required
	Phase ClaimPhase `json:"phase"`

	// consumedTime is when phase became Consumed.
	// +optional
	ConsumedTime *metav1.Time `json:"consumedTime,omitempty"`

	// restoredFrom is the name of the older Checkpoint that the pod goes on from in place of this one, by the fallback Previous of its RestorePolicy.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	RestoredFrom string `json:"restoredFrom,omitempty"`
}

// Checkpoint is one consistent capture of one pod. The manager makes one for every labelled pod that is terminated. One that is made by hand, with the name
// of a pod, has that pod captured while it goes on.
//
// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ckpt
// +kubebuilder:printcolumn:name="Pod",type=string,JSONPath=`.spec.sourcePodName`,description="The pod that is captured."
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="How far the capture has come."
// +kubebuilder:printcolumn:name="Size",type=string,JSONPath=`.status.size`,description="What the state takes, before compression."
// +kubebuilder:printcolumn:name="Frozen",type=string,JSONPath=`.status.frozen`,description="For how long the program stood still."
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.status.source.node`,description="The node where the pod ran."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Owner",type=string,priority=1,JSONPath=`.status.source.owner.name`,description="The controller that made the pod."
// +kubebuilder:printcolumn:name="Location",type=string,priority=1,JSONPath=`.status.locationName`,description="Where the state is stored."
// +kubebuilder:printcolumn:name="Volume",type=string,priority=1,JSONPath=`.status.volume.source`,description="The volume of the pod in which it is kept."
// +kubebuilder:printcolumn:name="Claimed-By",type=string,priority=1,JSONPath=`.status.claim.podName`,description="The new pod that is restored from it."
// +kubebuilder:printcolumn:name="Trigger",type=string,priority=1,JSONPath=`.spec.trigger`,description="What the capture comes from."
// +kubebuilder:printcolumn:name="Pinned",type=string,priority=1,JSONPath=`.metadata.labels.memverge\.ai/checkpoint-pin`,description="Whether no rule ends it."
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63",message="the name must have at most 63 characters"
type Checkpoint struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's standard metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec says which pod is captured.
	// +required
	Spec CheckpointSpec `json:"spec"`

	// status says how far the capture has come, what is in it, and who has claimed it.
	// +optional
	// +kubebuilder:default={conditions:{{type:"Ready",status:"Unknown",reason:"Pending",message:"not seen yet",lastTransitionTime:"1970-01-01T00:00:00Z"}}}
	Status CheckpointStatus `json:"status,omitempty,omitzero"`
}

// CheckpointList is a list of Checkpoints.
//
// +kubebuilder:object:root=true
type CheckpointList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the list's standard metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	// items are the Checkpoints.
	// +required
	Items []Checkpoint `json:"items"`
}
