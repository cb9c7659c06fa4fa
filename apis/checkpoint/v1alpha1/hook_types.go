package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The bounds of hooks.
const (
	// DefaultHookTimeout is that of a hook that says none, as by the schema.
	DefaultHookTimeout = 30 * time.Second
	// LeastHookTimeout and MostHookTimeout bound it.
	LeastHookTimeout = time.Second
	MostHookTimeout  = 5 * time.Minute
	// MostHooks is how many hooks a list may have, MostHookWords how many words a command, and MostHookWordBytes how long each of them may be.
	MostHooks         = 8
	MostHookWords     = 32
	MostHookWordBytes = 2048
)

// HookErrorMode says what follows when a hook fails.
// +kubebuilder:validation:Enum=Continue;Fail
type HookErrorMode string

// The modes.
const (
	// HookContinue: what would have followed its success.
	HookContinue HookErrorMode = "Continue"
	// HookFail: the hooks behind it in the same list are not run, and behind one of preCheckpoint there is no capture.
	HookFail HookErrorMode = "Fail"
)

// Hook is a command that is run in containers of a pod, as kubectl exec would run it: with the user, the environment and the working directory of the
// container. It has failed when it cannot be started, ends with an exit code other than 0, or is killed at the end of its timeout.
type Hook struct {
	// container is the name of the container that it is run in. Without it, it is run in all containers that are captured, one after the other. For a pod of
	// which no such container is captured the hook does not count.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Container string `json:"container,omitempty"`

	// exec is what is run.
	// +required
	Exec HookExec `json:"exec"`

	// onError says what follows when it fails. Continue: what would have followed its success. Fail: the hooks behind it in the same list are not run, and
	// behind one of preCheckpoint there is no capture: a pod that is stopped ends as if it had no label, and its work is lost.
	// +optional
	// +kubebuilder:default=Continue
	OnError HookErrorMode `json:"onError,omitempty"`

	// timeout is for how long it may run, from 1s to 5m; then it is killed, and has failed.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('5m')",message="timeout must be from 1s to 5m"
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// HookExec is a command.
type HookExec struct {
	// command is the program and its arguments. No shell is involved, unless the program is one.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self[0].size() > 0",message="the first word of command must be a program"
	Command []string `json:"command"`
}

// CheckpointHooks are run around a capture. An annotation of the pod takes the place of a list, as memverge.ai/pre-checkpoint-hook.
//
// +kubebuilder:validation:XValidation:rule="has(self.preCheckpoint) || has(self.postCheckpoint)",message="preCheckpoint or postCheckpoint must be set"
type CheckpointHooks struct {
	// preCheckpoint are run before the containers are frozen, one after the other. Those of a pod that is stopped may take half of its grace period together;
	// then the one that runs is killed, and the capture begins.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	PreCheckpoint []Hook `json:"preCheckpoint,omitempty"`

	// postCheckpoint are run when the containers go on, one after the other, whether the capture succeeded or not: what preCheckpoint holds back is to go on
	// then. When a pod is stopped and captured that is in the restored pod, and when it cannot be captured it is before its stop signal.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	PostCheckpoint []Hook `json:"postCheckpoint,omitempty"`
}

// RestoreHooks are run after a restore. An annotation of the pod takes the place of a list: memverge.ai/post-restore-hook.
type RestoreHooks struct {
	// postRestore are run when all captured containers of the pod go on, one after the other, behind the postCheckpoint of the capture. The pod does not wait
	// for them.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	PostRestore []Hook `json:"postRestore"`
}

// CheckpointHookStatus says what became of the hooks around a capture. One that is run in several containers counts once for each.
type CheckpointHookStatus struct {
	// attempted is how many had their turn.
	// +required
	// +kubebuilder:validation:Minimum=0
	Attempted int32 `json:"attempted"`

	// failed is how many of them failed. The message of the condition Captured names the first.
	// +required
	// +kubebuilder:validation:Minimum=0
	Failed int32 `json:"failed"`
}
