package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CheckpointPolicyReady is the condition of a CheckpointPolicy, written by the manager. True: it does all that its spec says.
const CheckpointPolicyReady = "Ready"

// The reasons of the condition Ready of a CheckpointPolicy.
const (
	// CheckpointPolicyPending: the manager has not seen the policy yet.
	CheckpointPolicyPending = "Pending"
	// CheckpointPolicyActive: it applies; Ready is True.
	CheckpointPolicyActive = "Active"
	// CheckpointPolicyPaused: as paused says, its pods are not captured.
	CheckpointPolicyPaused = "Paused"
	// CheckpointPolicyInvalidSelector: its selector cannot be understood; the message says why.
	CheckpointPolicyInvalidSelector = "InvalidSelector"
	// CheckpointPolicyInvalidSchedule: its schedule cannot be understood, and does nothing; the message says why.
	CheckpointPolicyInvalidSchedule = "InvalidSchedule"
	// CheckpointPolicyUnknownContainers: containers names one that none of its pods has; the message says which they have.
	CheckpointPolicyUnknownContainers = "UnknownContainers"
	// CheckpointPolicyLocationNotFound: there is no CheckpointStorageLocation of the name that storageLocation says.
	CheckpointPolicyLocationNotFound = ReasonLocationNotFound
	// CheckpointPolicyLocationReadOnly: that location takes no new Checkpoints.
	CheckpointPolicyLocationReadOnly = ReasonLocationReadOnly
)

// Disposal says what becomes of Checkpoints when their owner needs them no more.
// +kubebuilder:validation:Enum=Delete;Keep
type Disposal string

// The disposals.
const (
	// DisposalDelete: they are deleted, and their data with them.
	DisposalDelete Disposal = "Delete"
	// DisposalKeep: they stay, until keepLast or ttl ends them.
	DisposalKeep Disposal = "Keep"
)

// CheckpointPolicySpec says which pods are captured, what of them, where that is stored and for how long it is kept. Of several policies that
// match a pod the oldest counts, then the first by name; the others do nothing for it. A pod that none matches is captured by the defaults.
type CheckpointPolicySpec struct {
	// selector says by their labels which pods of the namespace the policy applies to; an empty one means all. Pods without the label
	// memverge.ai/checkpoint-mode are captured by no policy.
	// +required
	Selector *metav1.LabelSelector `json:"selector"`

	// containers says which containers of a pod are captured and restored. Without it they are all but istio-proxy, nginx-proxy and linkerd-proxy.
	// A change counts for pods that are made later.
	// +optional
	Containers *ContainerSelection `json:"containers,omitempty"`

	// triggers say when pods are captured that go on. Each pod is captured at its end in any case.
	// +optional
	Triggers *CheckpointTriggers `json:"triggers,omitempty"`

	// retention says for how long Checkpoints are kept. A change counts at once, also for those that there are.
	// +optional
	// +kubebuilder:default={}
	Retention CheckpointRetention `json:"retention,omitempty,omitzero"`

	// storageLocation is the name of the CheckpointStorageLocation in which the Checkpoints are stored. Without it that is the one with the role
	// Default. A change counts for Checkpoints whose upload has not begun.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1123Subdomain().validate(self).hasValue()",message="storageLocation must be the name of a location"
	StorageLocation string `json:"storageLocation,omitempty"`

	// hooks are commands that are run in the containers around their captures. A change counts for pods that are made later.
	// +optional
	Hooks *CheckpointHooks `json:"hooks,omitempty"`

	// paused has no pod of the policy be captured, as long as it is true: pods that are stopped get their stop signal as if they had no label.
	// Checkpoints that there are stay, and new pods are restored from them. It counts at once, also for pods that run.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// CheckpointTriggers say when pods are captured that go on. Of two that come together there is one capture; and none while another goes on.
//
// +kubebuilder:validation:XValidation:rule="has(self.interval) || has(self.schedule)",message="interval or schedule must be set"
type CheckpointTriggers struct {
	// interval is the time from a pod's start, or from its last capture, to the next: 10s or more, as 15m. The pod's annotation memverge.ai/checkpoint-interval
	// and the environment variable MMC_CHECKPOINT_INTERVAL of its containers go before it.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s')",message="interval must be 10s or more"
	Interval *metav1.Duration `json:"interval,omitempty"`

	// schedule says the times of day.
	// +optional
	Schedule *CheckpointSchedule `json:"schedule,omitempty"`
}

// CheckpointSchedule is a list of times. One that goes by while the manager is away is made up for, once.
type CheckpointSchedule struct {
	// cron is minute, hour, day of the month, month and day of the week, as "0 */6 * * *" for every six hours; also @hourly, @daily, @weekly and @monthly.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Cron string `json:"cron"`

	// timeZone is the name of the time zone of cron, as Europe/Berlin; UTC without it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`

	// jitter is the time over which the pods' captures are spread, as 10m: each pod has a delay of its own within it, always the same.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	Jitter *metav1.Duration `json:"jitter,omitempty"`
}

// ContainerSelection says by their names which containers of a pod are captured and restored.
//
// +kubebuilder:validation:XValidation:rule="has(self.include) != has(self.exclude)",message="exactly one of include and exclude must be set"
type ContainerSelection struct {
	// include are the only ones that are captured. The proxies that are left out by default can be among them.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Include []string `json:"include,omitempty"`

	// exclude are not captured, besides those that are left out by default.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Exclude []string `json:"exclude,omitempty"`
}

// CheckpointRetention says for how long Checkpoints are kept. One that a pod has claimed is kept until its restore has succeeded or failed.
// One that was restored is of no more use, as it is never restored again, and goes after an hour. One with the label memverge.ai/checkpoint-pin is kept as
// long as it has that.
type CheckpointRetention struct {
	// keepLast is how many complete Checkpoints of one lineage and identity are kept, the newest. Where any pod of the owner can go on from any of
	// them, as with a Deployment, one that no pod has taken yet counts but is never among those that go: it is the work of another pod.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	KeepLast *int32 `json:"keepLast,omitempty"`

	// maxSize is what the complete Checkpoints of one lineage and identity may take together, as 20Gi: the sum of their sizeBytes. The oldest go until it is
	// so, but never the newest, one that is being restored, or one that keepLast never ends. Those that are pinned do not count.
	// +optional
	// +kubebuilder:validation:XValidation:rule="isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))",message="maxSize must be more than nothing"
	MaxSize *resource.Quantity `json:"maxSize,omitempty"`

	// ttl is the age, from the capture on, at which a Checkpoint expires, whether or not it is in the bucket yet: as 12h or 168h. It should not be
	// less than the maxAge of the RestorePolicy.
	// +optional
	// +kubebuilder:default="168h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="ttl must be more than nothing"
	TTL *metav1.Duration `json:"ttl,omitempty"`

	// onOwnerCompleted says what becomes of Checkpoints when their Job has completed or failed, or their plain pod has succeeded.
	// +optional
	// +kubebuilder:default=Delete
	OnOwnerCompleted Disposal `json:"onOwnerCompleted,omitempty"`

	// onOwnerDeleted says what becomes of Checkpoints when the controller of their pod is deleted: with Delete the garbage collector takes them along.
	// +optional
	// +kubebuilder:default=Delete
	OnOwnerDeleted Disposal `json:"onOwnerDeleted,omitempty"`
}

// CheckpointPolicyStatus says whether a policy does what it says. The manager alone writes it.
type CheckpointPolicyStatus struct {
	// conditions are Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// matchedPods is how many labelled pods the policy applies to at the moment, without those that an older policy has.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	MatchedPods int32 `json:"matchedPods,omitempty"`
}

// CheckpointPolicy says how labelled pods of a namespace are captured, where their state is stored and for how long it is kept.
//
// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=cp,path=checkpointpolicies
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,description="Whether it does what it says."
// +kubebuilder:printcolumn:name="Pods",type=integer,JSONPath=`.status.matchedPods`,description="The pods that it applies to."
// +kubebuilder:printcolumn:name="Keep-Last",type=integer,JSONPath=`.spec.retention.keepLast`,description="How many Checkpoints of a pod are kept."
// +kubebuilder:printcolumn:name="TTL",type=string,JSONPath=`.spec.retention.ttl`,description="The age at which a Checkpoint expires."
// +kubebuilder:printcolumn:name="Location",type=string,JSONPath=`.spec.storageLocation`,description="Where Checkpoints are stored, if not by default."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Max-Size",type=string,priority=1,JSONPath=`.spec.retention.maxSize`,description="What Checkpoints of a pod may take."
// +kubebuilder:printcolumn:name="On-Completed",type=string,priority=1,JSONPath=`.spec.retention.onOwnerCompleted`,description="What its completion means."
// +kubebuilder:printcolumn:name="On-Deleted",type=string,priority=1,JSONPath=`.spec.retention.onOwnerDeleted`,description="What its deletion means."
type CheckpointPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the object's standard metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec says which pods are captured, what of them, where that is stored and for how long.
	// +required
	Spec CheckpointPolicySpec `json:"spec"`

	// status says whether the policy does that.
	// +optional
	// +kubebuilder:default={conditions:{{type:"Ready",status:"Unknown",reason:"Pending",message:"not seen yet",lastTransitionTime:"1970-01-01T00:00:00Z"}}}
	Status CheckpointPolicyStatus `json:"status,omitempty,omitzero"`
}

// CheckpointPolicyList is a list of CheckpointPolicies.
//
// +kubebuilder:object:root=true
type CheckpointPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the list's standard metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	// items are the CheckpointPolicies.
	// +required
	Items []CheckpointPolicy `json:"items"`
}
