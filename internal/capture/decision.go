package capture

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// Action is what the runtime is to do with a new pod.
type Action string

// The actions of a decision.
const (
	Restore Action = "restore"
	Cold    Action = "cold"
)

// Decision is the file decision.json of a pod: what the agent decided, before the pod's sandbox may be created.
type Decision struct {
	SchemaVersion int    `json:"schemaVersion"`
	Action        Action `json:"action"`
	// Reason says why the pod starts cold.
	Reason string `json:"reason,omitempty"`
	// Checkpoint is the name of the object that is restored.
	Checkpoint string `json:"checkpoint,omitempty"`
	// Directory is the folder of the capture, fetched and verified.
	Directory string `json:"directory,omitempty"`
	// Containers are those of the capture that are restored, by name.
	Containers []string `json:"containers,omitempty"`
	// Expires bounds how long the decision may be acted on.
	Expires time.Time `json:"expires"`
}

// Restores tells whether the decision restores a container of that name at that time.
func (d *Decision) Restores(name string, now time.Time) bool {
	return d.Action == Restore && slices.Contains(d.Containers, name) && now.Before(d.Expires)
}

// Outcome is what became of one container.
type Outcome string

// The outcomes of a restore.
const (
	// Attempted is written, durably, before the first restored instruction may run: from then on the state counts as consumed.
	Attempted Outcome = "attempted"
	Restored  Outcome = "restored"
	// RestoreFailed: the container was started cold in the same call.
	RestoreFailed Outcome = "failed"
)

// Result is the file result-CONTAINER.json of a pod: what the runtime did with a container.
type Result struct {
	SchemaVersion int     `json:"schemaVersion"`
	Container     string  `json:"container"`
	ContainerID   string  `json:"containerID"`
	Outcome       Outcome `json:"outcome"`
	// Message is CRIU's first error line, or the step that failed.
	Message string        `json:"message,omitempty"`
	Started time.Time     `json:"started"`
	Files   time.Duration `json:"files"`
	Process time.Duration `json:"process"`
	Total   time.Duration `json:"total"`
}

// Node is the part of a node's file system in which runtime and agent meet. Root is "/" but in tests.
type Node struct{ Root string }

// Captures holds the captures of a pod: SEQ is complete or failed, SEQ.partial is under way.
func (n Node) Captures(podUID string) string {
	return filepath.Join(n.Root, "var/lib/checkpoint/captures", podUID)
}

// Restores holds decision and results of a pod.
func (n Node) Restores(podUID string) string {
	return filepath.Join(n.Root, "var/lib/checkpoint/restores", podUID)
}

// PodHints holds what the agent knows of a pod, as files: deleting.
func (n Node) PodHints(podUID string) string {
	return filepath.Join(n.Root, "run/checkpoint/pods", podUID)
}

// Containers holds what the runtime remembers of each container of this boot.
func (n Node) Containers() string { return filepath.Join(n.Root, "run/checkpoint/containers") }

// AgentLock is held by a live agent (flock).
func (n Node) AgentLock() string { return filepath.Join(n.Root, "run/checkpoint/agent.lock") }

// DeletingHint is the name of the hint that a pod has a deletionTimestamp.
const DeletingHint = "deleting"

// Decision reads the decision for a pod; fs.ErrNotExist says that there is none yet.
func (n Node) Decision(podUID string) (*Decision, error) {
	d := &Decision{}
	path := filepath.Join(n.Restores(podUID), "decision.json")
	if err := readJSON(path, d); err != nil {
		return nil, err
	}
	if d.SchemaVersion != SchemaVersion {
		return nil, fmt.Errorf("%s: schemaVersion is %d; it may be %d", path, d.SchemaVersion, SchemaVersion)
	}
	return d, nil
}

// ResultFile is where the result of a container is written.
func (n Node) ResultFile(podUID, container string) string {
	return filepath.Join(n.Restores(podUID), "result-"+container+".json")
}

// Result reads the result of a container; fs.ErrNotExist says that nothing was tried.
func (n Node) Result(podUID, container string) (*Result, error) {
	r := &Result{}
	return r, readJSON(n.ResultFile(podUID, container), r)
}
