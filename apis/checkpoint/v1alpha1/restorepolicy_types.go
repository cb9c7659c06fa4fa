package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The conditions of a RestorePolicy, written by the manager.
const (
	// RestorePolicyReady: True when pods that it applies to are restored.
	RestorePolicyReady = "Ready"
	// RestorePolicyOverruled: True while there are pods that it applies to, and for which another RestorePolicy decides.
	RestorePolicyOverruled = "Overruled"
)

// The reasons of the condition Ready of a RestorePolicy.
const (
	// RestorePolicyPending: the manager has not seen the policy yet.
	RestorePolicyPending = "Pending"
	// RestorePolicyActive: it applies; Ready is True.
	RestorePolicyActive = "Active"
	// RestorePolicyDisabled: its mode is Disabled.
	RestorePolicyDisabled = "Disabled"
	// RestorePolicyInvalidSelector: its selector cannot be understood; the message says why.
	RestorePolicyInvalidSelector = "InvalidSelector"
)

// The reasons of the condition Overruled of a RestorePolicy.
const (
	// RestorePolicyOnly: False; it decides for every pod that it applies to.
	RestorePolicyOnly = "NotOverruled"
	// RestorePolicyAnotherFirst: True; the message names those that go before it.
	RestorePolicyAnotherFirst = "AnotherFirst"
)

// RestoreMode says whether pods are restored.
// +kubebuilder:validation:Enum=Enabled;Disabled
type RestoreMode string

// The modes of a RestorePolicy.
const (
	// RestoreEnabled: a new pod is restored when there is a Checkpoint for it.
	RestoreEnabled RestoreMode = "Enabled"
	// RestoreDisabled: every new pod starts cold; captures go on.
	RestoreDisabled RestoreMode = "Disabled"
)

// RestoreSource says which of several Checkpoints a pod is restored from.
// +kubebuilder:validation:Enum=Latest;Named
type RestoreSource string

// The sources of a restore.
const (
	// RestoreLatest is the newest one that no other pod has claimed, by status.captureTime.
	RestoreLatest RestoreSource = "Latest"
	// RestoreNamed is the one that checkpointName names, and no other.
	RestoreNamed RestoreSource = "Named"
)

// TemplateChanges says what becomes of a pod whose owner's template has changed since the capture.
// +kubebuilder:validation:Enum=ColdStart;Restore
type TemplateChanges string

// What can become of a pod of another revision.
const (
	// TemplateChangesColdStart has it start cold, with the reason TemplateChanged.
	TemplateChangesColdStart TemplateChanges = "ColdStart"
	// TemplateChangesRestore has it restored from what pods of any revision left.
	TemplateChangesRestore TemplateChanges = "Restore"
)

// RestoreFallback says what becomes of a pod that cannot be restored.
// +kubebuilder:validation:Enum=ColdStart;Previous;Fail
type RestoreFallback string

// The fallbacks of a RestorePolicy.
const (
	// FallbackColdStart has the pod start as if there were no Checkpoint, and its condition memverge.ai/Restored says why.
	FallbackColdStart RestoreFallback = "ColdStart"
	// FallbackPrevious has it go on from the state before that one, and start cold where there is none.
	FallbackPrevious RestoreFallback = "Previous"
	// FallbackFail has the pod not start as long as it cannot be restored.
	FallbackFail RestoreFallback = "Fail"
)

// VolumeChanges says what becomes of a pod whose volumes hold more by now than they did when the state that it would go on from was captured.
// +kubebuilder:validation:Enum=ColdStart;Restore
type VolumeChanges string

// What can become of a pod whose volumes have moved on.
const (
	// VolumeChangesColdStart has it start cold, with the reason VolumeAdvanced.
	VolumeChangesColdStart VolumeChanges = "ColdStart"
	// VolumeChangesRestore has it restored: its program bears finding volumes ahead of its memory.
	VolumeChangesRestore VolumeChanges = "Restore"
)

// DefaultMaxAge, DefaultWaitFor and DefaultAttempts are maxAge, waitFor and attempts of a pod to which no RestorePolicy applies; those of a policy that
// leaves them out are the same, by the schema.
const (
	DefaultMaxAge   = 24 * time.Hour
	DefaultWaitFor  = 5 * time.Minute
	DefaultAttempts = 3
)

// CPURule says how the processor of a new pod's node is compared with that of the capture.
// +kubebuilder:validation:Enum=Subset;Ignore
type CPURule string

// The rules for processors.
const (
	// CPUSubset: the node must have every instruction and register that the captured program may use.
	CPUSubset CPURule = "Subset"
	// CPUIgnore: it may lack some. A program that uses them is ended by the signal SIGILL then.
	CPUIgnore CPURule = "Ignore"
)

// KernelRule says how the kernel of a new pod's node is compared with that of the capture, by the first two numbers of its release.
// +kubebuilder:validation:Enum=SameOrNewer;Same;Any
type KernelRule string

// The rules for kernels.
const (
	KernelSameOrNewer KernelRule = "SameOrNewer"
	KernelSame        KernelRule = "Same"
	KernelAny         KernelRule = "Any"
)

// ImageRule says how the images of a new pod are compared with those of the capture.
// +kubebuilder:validation:Enum=Same;Ignore
type ImageRule string

// The rules for images.
const (
	// ImageSame: where the node has an image of that name already, it must be the one of the capture, by its digest.
	ImageSame ImageRule = "Same"
	// ImageIgnore: it may be another one; CRIU refuses when a file that the program has mapped differs.
	ImageIgnore ImageRule = "Ignore"
)

// RestoreCompatibility says how a node and a new pod are compared with those of the capture before a Checkpoint is claimed. Architecture, size of
// memory pages and the memory limits of the new pod, which must have room for what was captured, are always compared.
type RestoreCompatibility struct {
	// cpu says how processors are compared. Subset: the node must have every instruction and register that the captured program may use. Ignore:
	// it may lack some; a program that uses them is ended by SIGILL then.
	// +optional
	// +kubebuilder:default=Subset
	CPU CPURule `json:"cpu,omitempty"`

	// kernel says how kernels are compared, by the first two numbers of their releases: SameOrNewer, Same, or Any.
	// +optional
	// +kubebuilder:default=SameOrNewer
	Kernel KernelRule `json:"kernel,omitempty"`

	// image says how images are compared. Same: where the node has an image of that name already, it must be the one of the capture, by its
	// digest. Ignore: it may be another one; CRIU refuses when a file that the program has mapped differs.
	// +optional
	// +kubebuilder:default=Same
	Image ImageRule `json:"image,omitempty"`
}

// RestorePolicySpec says which pods are restored, from what, and what happens when that fails. A policy with a selector, which a person
// wrote, goes before the one that was spawned for the pod's owner; of several with a selector the oldest counts, then the first by name.
//
// +kubebuilder:validation:XValidation:rule="has(self.owner) != has(self.selector)",message="exactly one of owner and selector must be set"
// +kubebuilder:validation:XValidation:rule="has(self.owner) == has(oldSelf.owner)",message="owner is immutable"
// +kubebuilder:validation:XValidation:rule="has(self.checkpointName) == (self.source == 'Named')",message="checkpointName goes with source Named only"
// +kubebuilder:validation:XValidation:rule="self.fallback != 'Previous' || self.source == 'Latest'",message="fallback Previous goes with source Latest only"
type RestorePolicySpec struct {
	// owner is the controller for which the manager spawned the policy: it applies to the pods of that controller.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="owner is immutable"
	Owner *Owner `json:"owner,omitempty"`

	// selector says by their labels which pods of the namespace the policy applies to; an empty one means all.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// mode says whether pods are restored. Disabled: every new pod starts cold; captures go on.
	// +optional
	// +kubebuilder:default=Enabled
	Mode RestoreMode `json:"mode,omitempty"`

	// source says which of several Checkpoints a pod is restored from. Latest: the newest one that no other pod has claimed. Named: the one that
	// checkpointName names, whichever is the newest.
	// +optional
	// +kubebuilder:default=Latest
	Source RestoreSource `json:"source,omitempty"`

	// checkpointName names the Checkpoint, in the same namespace, that a pod is restored from when source is Named. It serves one pod, once, and must be
	// of the pod's own owner, template and, where pods have one, identity (the name in a StatefulSet, the index in a Job). For a Checkpoint that was made
	// anew from a bucket, a controller of the same kind and name in another cluster is the own owner, too. When it is missing, not
	// complete, claimed, of other pods, or too old, the pod is not restored from anything else: fallback says what becomes of it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	CheckpointName string `json:"checkpointName,omitempty"`

	// templateChanges says what becomes of a pod whose owner's template has changed since the capture. ColdStart: it starts cold, with the reason
	// TemplateChanged. Restore: it is restored from the newest Checkpoint of the same owner and identity, whatever the revision; revisions of a
	// Deployment have one owner here, the Deployment. The program goes on as it was, with the command and the environment of then. The image
	// must be the same, every captured container must be there, and no right may have been taken away, else the restore is refused.
	// +optional
	// +kubebuilder:default=ColdStart
	TemplateChanges TemplateChanges `json:"templateChanges,omitempty"`

	// waitFor bounds for how long a new pod waits for a state that is on its way: a pod that is being captured, or an upload. It counts from the
	// moment at which the pod got its node, from 0s (do not wait) to 1h. A pod without anything to wait for never waits. When the time is over, a pod that can
	// take up the work of any other takes the newest state that is there; else it is not restored, with the reason WaitTimeout. It holds while
	// the agent of the node runs; without one, a pod starts cold after 5 minutes.
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('1h')",message="waitFor must be from 0s to 1h"
	WaitFor *metav1.Duration `json:"waitFor,omitempty"`

	// maxAge is the age, from the capture on, beyond which a Checkpoint is not restored, as 90m or 24h.
	// +optional
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="maxAge must be more than nothing"
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`

	// compatibility says how a node and a new pod are compared with those of the capture before a Checkpoint is claimed.
	// +optional
	// +kubebuilder:default={}
	Compatibility RestoreCompatibility `json:"compatibility,omitempty,omitzero"`

	// attempts is how often the restore of a container from one state is begun before it counts as failed: again when CRIU fails or is killed, as long as
	// no instruction of the captured program can have run, and within the 90 s that restores of a container may take together. What another try
	// cannot change, as rights that the new container lacks, is tried once.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	Attempts *int32 `json:"attempts,omitempty"`

	// containerRestarts is how many times at most a container that ends, and that kubelet starts again in the same pod, is restored from one state: the
	// last that the pod left while it went on, by hand, by annotation or periodically, or else the one that it began with. Beyond that, and with 0,
	// it begins from scratch. It counts for pods that begin after it was set. The state stays on the node as long as the pod does. Containers that were captured
	// together with others begin from scratch at any rate: those have moved on.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	ContainerRestarts *int32 `json:"containerRestarts,omitempty"`

	// volumeChanges says what becomes of a pod with writable volumes that outlive it, as PersistentVolumeClaims, where it would go on from a state from
	// before what they hold: with the fallback Previous, or with containerRestarts. ColdStart: it starts cold, with the reason VolumeAdvanced.
	// Restore: it is restored; its program must bear volumes that are ahead of its memory.
	// +optional
	// +kubebuilder:default=ColdStart
	VolumeChanges VolumeChanges `json:"volumeChanges,omitempty"`

	// hooks are commands that are run in the containers after their restore. A change counts for pods that are restored later.
	// +optional
	Hooks *RestoreHooks `json:"hooks,omitempty"`

	// fallback says what becomes of a pod for which there is a Checkpoint that it cannot be restored from. ColdStart: it starts as if there were none.
	// Previous: it goes on from the Checkpoint before that one, which is the one that the captured pod itself was restored from; the reason is
	// RestoredFromPrevious then, and where there is none, it starts cold. It applies to RestoreFailed and SecurityContextMismatch, to Incompatible, to a
	// capture that failed, and to WaitTimeout of an upload. Fail: it does not start. An event and the pod's condition memverge.ai/Restored, False with the
	// reason RestoreRefused, say why, and it is tried again until the cause is gone, the policy says something else, or the pod's label
	// memverge.ai/restore-mode says "false". Fail applies to the reasons CheckpointTooOld, WaitTimeout, RestoreFailed, SecurityContextMismatch and
	// Incompatible, and with source Named also to CheckpointNotFound, CheckpointNotReady, CheckpointClaimed, OtherLineage and TemplateChanged. It does not
	// apply to NoCheckpoint, so that the first pod of an owner starts, nor to RestoreDisabled, nor, with source Latest, to TemplateChanged, which
	// templateChanges asks for, and to what has expired. It applies to AgentUnavailable once the agent of the node has seen the pod and found that it has
	// to wait or cannot be restored.
	// +optional
	// +kubebuilder:default=ColdStart
	Fallback RestoreFallback `json:"fallback,omitempty"`
}

// RestorePolicyStatus says what became of the pods that a policy applies to. The manager alone writes it.
type RestorePolicyStatus struct {
	// conditions are Ready and Overruled.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// restored counts the pods that continued from a Checkpoint.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	Restored int64 `json:"restored,omitempty"`

	// coldStarted counts the pods that started cold because there was nothing to restore, or because they were not to be restored.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	ColdStarted int64 `json:"coldStarted,omitempty"`

	// failed counts the pods that started cold because their restore failed.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	Failed int64 `json:"failed,omitempty"`
}

// RestorePolicy says which pods of a namespace are restored, from what, and what happens when that fails. The manager spawns one per
// owner of labelled pods; a person can write their own.
//
// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=rp,path=restorepolicies
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`,description="Whether pods are restored."
// +kubebuilder:printcolumn:name="Owner",type=string,JSONPath=`.spec.owner.name`,description="The controller for which the policy was spawned."
// +kubebuilder:printcolumn:name="Fallback",type=string,JSONPath=`.spec.fallback`,description="What becomes of a pod that cannot be restored."
// +kubebuilder:printcolumn:name="Restored",type=integer,JSONPath=`.status.restored`,description="Pods that continued from a Checkpoint."
// +kubebuilder:printcolumn:name="Cold",type=integer,JSONPath=`.status.coldStarted`,description="Pods that started cold with nothing to restore."
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.failed`,description="Pods that started cold because their restore failed."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="State",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Whether it applies."
// +kubebuilder:printcolumn:name="Source",type=string,priority=1,JSONPath=`.spec.source`,description="Which of several Checkpoints is restored."
// +kubebuilder:printcolumn:name="Checkpoint",type=string,priority=1,JSONPath=`.spec.checkpointName`,description="The only Checkpoint that is restored."
// +kubebuilder:printcolumn:name="Template-Changes",type=string,priority=1,JSONPath=`.spec.templateChanges`,description="What becomes of another revision."
// +kubebuilder:printcolumn:name="Wait-For",type=string,priority=1,JSONPath=`.spec.waitFor`,description="How long a pod waits for a state on its way."
// +kubebuilder:printcolumn:name="Max-Age",type=string,priority=1,JSONPath=`.spec.maxAge`,description="The age beyond which a Checkpoint is not restored."
// +kubebuilder:printcolumn:name="Overruled",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Overruled")].status`,description="By another."
type RestorePolicy struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's standard metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec says which pods are restored, from what, and what happens when that fails.
	// +required
	Spec RestorePolicySpec `json:"spec"`

	// status says what became of those pods.
	// +optional
	// +kubebuilder:default={conditions:{{type:"Ready",status:"Unknown",reason:"Pending",message:"not seen yet",lastTransitionTime:"1970-01-01T00:00:00Z"}}}
	Status RestorePolicyStatus `json:"status,omitempty,omitzero"`
}

// RestorePolicyList is a list of RestorePolicies.
//
// +kubebuilder:object:root=true
type RestorePolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the list's standard metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	// items are the RestorePolicies.
	// +required
	Items []RestorePolicy `json:"items"`
}
