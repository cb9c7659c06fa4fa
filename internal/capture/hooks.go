package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"
)

// HookPhase is when a hook is run.
type HookPhase string

// The phases of hooks.
const (
	// PreCheckpoint: before the containers are frozen.
	PreCheckpoint HookPhase = "preCheckpoint"
	// PostCheckpoint: when they go on after that, which may be in the restored pod.
	PostCheckpoint HookPhase = "postCheckpoint"
	// PostRestore: when they go on after a restore, behind PostCheckpoint.
	PostRestore HookPhase = "postRestore"
)

// Command is a hook: a command that is run in containers of a pod.
type Command struct {
	// Container is where it is run; empty is in all captured containers, one after the other.
	Container string `json:"container,omitempty"`
	// Words are the program and its arguments; there is one at least.
	Words []string `json:"words"`
	// Timeout is for how long it may run, in nanoseconds.
	Timeout time.Duration `json:"timeout"`
	// Breaks has the hooks behind it not be run when it fails, nor a capture be made.
	Breaks bool `json:"breaks,omitempty"`
}

// HookState is how far a hook has come.
type HookState string

// The states of a hook.
const (
	// HookBegun: it runs, or whoever ran it was killed.
	HookBegun     HookState = "begun"
	HookSucceeded HookState = "succeeded"
	HookFailed    HookState = "failed"
)

// HookRun is what became of a hook in one container.
type HookRun struct {
	Phase       HookPhase `json:"phase"`
	Container   string    `json:"container"`
	ContainerID string    `json:"containerID"`
	// Number is its place in the list of its phase, from 1 on.
	Number int       `json:"number"`
	State  HookState `json:"state"`
	// Message says why it failed: its exit code, and the last line that it wrote to its standard error.
	Message string        `json:"message,omitempty"`
	Took    time.Duration `json:"took,omitempty"`
}

// String says which hook it is and why it failed, for a person.
func (r HookRun) String() string {
	text := fmt.Sprintf("hook %d of %s in container %q", r.Number, r.Phase, r.Container)
	if r.State == HookFailed {
		text += " failed: " + r.Message
	}
	return text
}

// FailedHooks are those among runs that failed.
func FailedHooks(runs []HookRun) []HookRun {
	return slices.DeleteFunc(slices.Clone(runs), func(r HookRun) bool { return r.State != HookFailed })
}

// HookReport is a file that says what became of hooks. That one begins is in it before it does, so that none is run twice. It speaks of containers of this boot
// alone, so it need not outlive a power cut.
type HookReport struct {
	SchemaVersion int       `json:"schemaVersion"`
	Runs          []HookRun `json:"runs,omitempty"`
	// Done are the IDs of the restored containers in which no hook is run any more.
	Done []string `json:"done,omitempty"`
}

// HookPlan is the file in the folder of a pod's decision that says what is run in its restored containers. It is there before the result of the first of
// them says Restored.
type HookPlan struct {
	SchemaVersion int `json:"schemaVersion"`
	// PostCheckpoint are those of the state that was restored, and PostRestore those of the new pod.
	PostCheckpoint []Command `json:"postCheckpoint,omitempty"`
	PostRestore    []Command `json:"postRestore,omitempty"`
}

// IsEmpty tells whether there is nothing to run.
func (p HookPlan) IsEmpty() bool { return len(p.PostCheckpoint)+len(p.PostRestore) == 0 }

// CaptureHooksFile is where it is written what became of the hooks around the capture of a pod that is under way.
func (n Node) CaptureHooksFile(podUID string) string {
	return filepath.Join(n.Captures(podUID), "hooks.json")
}

// HookPlanFile and RestoreHooksFile are where it is written what is to be run in a pod that was restored, and what became of that.
func (n Node) HookPlanFile(podUID string) string {
	return filepath.Join(n.Restores(podUID), "hooks.json")
}

// RestoreHooksFile is described at HookPlanFile.
func (n Node) RestoreHooksFile(podUID string) string {
	return filepath.Join(n.Restores(podUID), "hooks-run.json")
}

// HookLock is held by whoever runs the hooks of a pod that was restored.
func (n Node) HookLock(podUID string) string { return filepath.Join(n.Restores(podUID), "hooks.lock") }

// HookPlan reads what is to be run in the restored containers of a pod; nothing where there is no plan.
func (n Node) HookPlan(podUID string) (HookPlan, error) {
	var p HookPlan
	err := readJSON(n.HookPlanFile(podUID), &p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errTorn) { // then nothing of the pod has run
		return HookPlan{}, nil
	}
	return p, err
}

// ReadHookReport reads the file at a path; nothing was run where there is none.
func ReadHookReport(path string) (HookReport, error) {
	var r HookReport
	err := readJSON(path, &r)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errTorn) {
		return HookReport{}, nil
	}
	return r, err
}

// Write writes the report to a file in one step.
func (r HookReport) Write(path string) error {
	r.SchemaVersion = SchemaVersion
	return NoteJSON(path, r)
}
