package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/transparent-checkpoint/operator/internal/compat"
)

// Action is what the runtime is to do with a new pod.
type Action string

// The actions of a decision.
const (
	Restore Action = "restore"
	Cold    Action = "cold"
)

// Fallback is what the runtime does about a container that it cannot restore.
type Fallback string

// The fallbacks of a decision.
const (
	// StartCold: it creates the container in the same call, as if there had been nothing to restore.
	StartCold Fallback = ""
	// Refuse: it does not. The call fails, kubelet shows why and calls again, and the restore is tried again as long as nothing of it ran. Nothing of what
	// was captured is given up: the claim stays with the pod.
	Refuse Fallback = "refuse"
)

// Decision is the file decision.json of a pod: what the agent decided, before the pod's sandbox may be created.
type Decision struct {
	SchemaVersion int    `json:"schemaVersion"`
	Action        Action `json:"action"`
	// Reason says why the pod starts cold.
	Reason string `json:"reason,omitempty"`
	// Message says more of that, for a person.
	Message string `json:"message,omitempty"`
	// Checkpoint is the name of the object that is restored.
	Checkpoint string `json:"checkpoint,omitempty"`
	// Begins says that the pod itself names the Checkpoint, which is restored without a claim.
	Begins bool `json:"begins,omitempty"`
	// Policy is the name of the RestorePolicy that was decided by; empty where none applies.
	Policy string `json:"policy,omitempty"`
	// Fallback says what becomes of a container that cannot be restored.
	Fallback Fallback `json:"fallback,omitempty"`
	// Directory is the folder of the capture, fetched and verified.
	Directory string `json:"directory,omitempty"`
	// Kept is the file in the pod's storage volume that the runtime brings to Directory, which is not there yet; nil when it is.
	Kept *KeptFile `json:"kept,omitempty"`
	// KeptLine is the line of the state in its storage volume, which the pod takes up alone; empty where that is not so.
	KeptLine string `json:"keptLine,omitempty"`
	// Containers are those of the capture that are restored, by name.
	Containers []string `json:"containers,omitempty"`
	// Compatibility is what this machine is compared with that of the capture by.
	Compatibility compat.Rules `json:"compatibility,omitzero"`
	// Attempts is how often the restore of a container from one state is begun; 0 is DefaultAttempts.
	Attempts int `json:"attempts,omitempty"`
	// Previous is a state of the same containers to go on from when none of them can be restored from Directory.
	Previous *Fetched `json:"previous,omitempty"`
	// GivenUp is the state in whose place another is restored; nil when there is none.
	GivenUp *GivenUp `json:"givenUp,omitempty"`
	// PostRestore are run in the restored containers when all of them go on.
	PostRestore []Command `json:"postRestore,omitempty"`
	// Restarts is how many times a container that is created again, as it has ended, is restored again from one state: the one that the pod began with, or the
	// last that it left while it went on. A pod that starts cold has it as well.
	Restarts int `json:"restarts,omitempty"`
	// NoRestarts says why it is not, though the policy would have it.
	NoRestarts string `json:"noRestarts,omitempty"`
	// Own says that what is restored is a state of the pod itself, from before its only captured container ended. Nothing is claimed for it.
	Own bool `json:"own,omitempty"`
	// BootID is that of the node's kernel when it was decided. What was brought to the node is not synced, so it serves that boot alone.
	BootID string `json:"bootID,omitempty"`
}

// DefaultAttempts is how often the restore of a container is begun when the decision does not say.
const DefaultAttempts = 3

// Fetched is a state that can be restored.
type Fetched struct {
	// Checkpoint is the name of the object.
	Checkpoint string `json:"checkpoint"`
	// Directory is the folder of the capture, fetched and verified.
	Directory string `json:"directory"`
	// Kept is as in Decision.
	Kept *KeptFile `json:"kept,omitempty"`
}

// GivenUp is a Checkpoint that was not restored.
type GivenUp struct {
	Checkpoint string `json:"checkpoint"`
	// Why is a sentence.
	Why string `json:"why"`
}

// GoBack makes Previous what is restored, for the reason why.
func (d *Decision) GoBack(why string) {
	d.GivenUp = &GivenUp{Checkpoint: d.Checkpoint, Why: why}
	d.Checkpoint, d.Directory, d.Kept, d.Previous = d.Previous.Checkpoint, d.Previous.Directory, d.Previous.Kept, nil
}

// Restores tells whether the decision restores a container of that name. It holds however long the images of the pod take to be pulled: the
// claim behind it keeps everybody else away.
func (d *Decision) Restores(name string) bool {
	return d.Action == Restore && slices.Contains(d.Containers, name)
}

// Refuses tells whether a container must not start instead of being restored, and has not been restored: its result says that it failed.
func (d *Decision) Refuses(r *Result) bool {
	return d.Action == Restore && d.Fallback == Refuse && r.Outcome == RestoreFailed && r.Again == 0
}

// Refusal is the beginning of the sentence that says of a pod that it does not start, and why not.
func Refusal(policy string) string {
	return fmt.Sprintf("not restored, and RestorePolicy %s says Fail", policy)
}

// The files beside a decision by which containers that were captured together go on together.
const (
	// HeldFile is there while restored containers of the pod are held until the others are restored.
	HeldFile = "held"
	// AloneFile says, in a sentence, that containers went on without the others.
	AloneFile = "alone"
)

// LiftedFile lies in the folder of a pod's decision as long as limits of the pod are lifted for a restore. When nobody holds the lock beside it, a
// restore was killed, and the runtime puts them back when it is asked to settle.
const LiftedFile = "lifted.json"

// RestoreLock is held by whoever restores a container of a pod.
func (n Node) RestoreLock(podUID string) string { return filepath.Join(n.Restores(podUID), "lock") }

// Outcome is what became of one container.
type Outcome string

// The outcomes of a restore.
const (
	// Attempted is written before the first step that has effects.
	Attempted Outcome = "attempted"
	Restored  Outcome = "restored"
	// RestoreFailed: the container was started cold in the same call.
	RestoreFailed Outcome = "failed"
)

// Result is the file result-CONTAINER.json of a pod: what the runtime did with a container. It is there from before the first step of a
// restore that has effects, and is written anew as the restore goes on.
type Result struct {
	SchemaVersion int     `json:"schemaVersion"`
	Container     string  `json:"container"`
	ContainerID   string  `json:"containerID"`
	Outcome       Outcome `json:"outcome"`
	// Consumed is true as soon as an instruction of the captured program may have run: its Checkpoint may never be restored again. A result without
	// it says that nothing ran, and the claim can be released (design M5). While the outcome is Attempted, BegunFile tells it.
	Consumed bool `json:"consumed"`
	// Reason is a word for a failure, as SecurityContextMismatch; empty means RestoreFailed.
	Reason string `json:"reason,omitempty"`
	// Follows is the name of the container on whose account this one was not restored: half a pod is not.
	Follows string `json:"follows,omitempty"`
	// Message is CRIU's first error line, or the step that failed.
	Message string `json:"message,omitempty"`
	// Errors are the error lines of CRIU's log, the first and the last of them if there are many.
	Errors []string `json:"errors,omitempty"`
	// Again is how many times the container has been restored again, after it had ended: from Own, or from what the pod began with.
	Again int `json:"again,omitempty"`
	// Own is the name of the pod's own Checkpoint that it was restored from; empty for the one that the pod began with.
	Own     string        `json:"own,omitempty"`
	Started time.Time     `json:"started"`
	Files   time.Duration `json:"files"`
	Process time.Duration `json:"process"`
	Total   time.Duration `json:"total"`
}

// Decision reads the decision for a pod; fs.ErrNotExist says that there is none yet, or none any more: the node went down before anything came of it, and
// what was to be restored may have holes.
func (n Node) Decision(podUID string) (*Decision, error) {
	d, err := n.readDecision(podUID)
	if errors.Is(err, errTorn) || err == nil && n.isVoid(podUID, d) {
		return nil, fmt.Errorf("%s: the node went down since it was written: %w", n.decisionFile(podUID), fs.ErrNotExist)
	}
	return d, err
}

func (n Node) readDecision(podUID string) (*Decision, error) {
	d := &Decision{}
	path := n.decisionFile(podUID)
	if err := readJSON(path, d); err != nil {
		return nil, err
	}
	if d.SchemaVersion != SchemaVersion {
		return nil, fmt.Errorf("%s: schemaVersion is %d; it may be %d", path, d.SchemaVersion, SchemaVersion)
	}
	return d, nil
}

// HasStates tells whether what a decision was to restore is there as it was brought.
func (n Node) HasStates(d *Decision) bool { return d.BootID == n.boot() }

// isVoid tells whether a decision has lost the state that it was to restore, before a container of the pod ran.
func (n Node) isVoid(podUID string, d *Decision) bool {
	if d.Action != Restore || d.Own || n.HasStates(d) { // a pod with states of its own has run
		return false
	}
	return !slices.ContainsFunc(d.Containers, func(name string) bool {
		r, err := n.Result(podUID, name)
		if errors.Is(err, fs.ErrNotExist) {
			return r.Consumed
		}
		return err != nil || r.Consumed || r.Outcome != Attempted && !d.Refuses(r)
	})
}

// Lost returns the decision for a pod that does not count any more, empty when it cannot be read; nil when there is none.
func (n Node) Lost(podUID string) *Decision {
	d, err := n.readDecision(podUID)
	if errors.Is(err, errTorn) {
		return &Decision{}
	}
	if err != nil || !n.isVoid(podUID, d) {
		return nil
	}
	return d
}

// Decide writes the decision for a pod, once: fs.ErrExist says that there is one already, which stands. So agent and runtime, which
// decides when no agent answers, cannot contradict each other. A restore need not be on the disk before SyncRestore, which would have to wait for all that
// was fetched.
func (n Node) Decide(podUID string, d Decision) error {
	d.SchemaVersion, d.BootID = SchemaVersion, n.boot()
	if err := os.MkdirAll(n.Restores(podUID), 0o700); err != nil {
		return err
	}
	if err := n.dropVoid(podUID); err != nil {
		return err
	}
	own := fmt.Sprintf("%s.%d", n.decisionFile(podUID), os.Getpid())
	write := WriteJSON
	if d.Action == Restore && d.Fallback == StartCold {
		write = NoteJSON
	}
	if err := write(own, d); err != nil {
		return err
	}
	err := os.Link(own, n.decisionFile(podUID))
	if err == nil { // nothing more is fetched, though whoever did may have been killed
		_ = Unreserve(n.Restores(podUID))
	}
	return errors.Join(err, os.Remove(own))
}

// SyncRestore has what is known of a pod's restore on the disk, its decision and its results, in the folder of which the path is given. It is called before
// anything restored may run.
func SyncRestore(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	for _, path := range files {
		file, openErr := os.Open(path)
		if openErr == nil {
			openErr = errors.Join(file.Sync(), file.Close())
		}
		err = errors.Join(err, openErr)
	}
	return err
}

// ErrRestoring says that a container of the pod is being restored at this moment.
var ErrRestoring = errors.New("a container of the pod is being restored")

// dropVoid removes a decision that does not count any more. What was tried by it stays with the results.
func (n Node) dropVoid(podUID string) error {
	if n.Lost(podUID) == nil {
		return nil
	}
	return n.whileNoneRestores(podUID, func() error {
		if n.Lost(podUID) == nil { // somebody else has, and perhaps decided anew
			return nil
		}
		return os.Remove(n.decisionFile(podUID))
	})
}

// Relent has containers of a pod start cold that its decision refuses to start. Whether they were restored before stays with their results, which alone
// say what became of them. It never happens while one is being restored: whoever restores holds the lock, and reads the decision under it.
func (n Node) Relent(podUID string) error {
	return n.whileNoneRestores(podUID, func() error {
		d, err := n.Decision(podUID)
		if err != nil {
			return err
		}
		d.Fallback = StartCold
		return n.Redecide(podUID, d)
	})
}

// whileNoneRestores changes something of a pod's decision, unless a container is being restored at this moment.
func (n Node) whileNoneRestores(podUID string, change func() error) error {
	file, err := os.OpenFile(n.RestoreLock(podUID), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := tryLock(file, alone); err != nil {
		if errors.Is(err, errLocked) {
			return ErrRestoring
		}
		return err
	}
	return change()
}

// Redecide writes a decision anew. Whoever calls it holds RestoreLock, and has read the decision under it.
func (n Node) Redecide(podUID string, d *Decision) error { return WriteJSON(n.decisionFile(podUID), d) }

// TakenLine returns the line of states in a storage volume that a pod takes up by its decision, once one of its containers has gone on from the state that was
// claimed; empty where that is not so. A state of the pod itself does not count for that: it has nothing of the line, unless the pod had taken it up before.
func (n Node) TakenLine(podUID string, d *Decision) string {
	if d.Own || d.KeptLine == "" { // GoOnFrom has found out
		return d.KeptLine
	}
	for _, name := range d.Containers {
		if r, err := n.Result(podUID, name); err == nil && r.Own == "" && (r.Consumed || r.Outcome == Restored) {
			return d.KeptLine
		}
	}
	return ""
}

// GoOnFrom has the only captured container of a pod, which has ended, be restored from a state of the pod itself. Whoever calls it holds RestoreLock, and has
// read the decision under it.
func (n Node) GoOnFrom(podUID string, d *Decision, state Fetched, container string) error {
	d.KeptLine = n.TakenLine(podUID, d) // the results that tell it will be other ones
	d.Action, d.Own, d.Reason, d.Message, d.Fallback = Restore, true, "", "", StartCold
	d.Checkpoint, d.Directory, d.Containers, d.Previous, d.GivenUp = state.Checkpoint, state.Directory, []string{container}, nil, nil
	d.Kept, d.Begins = state.Kept, false
	d.BootID = n.boot()
	return n.Redecide(podUID, d)
}

// States is where the states for a pod are brought, and State where that of one Checkpoint is, in this boot: nothing of them is synced, so what was brought
// before the node went down may have holes.
func (n Node) States(podUID string) string { return filepath.Join(n.Restores(podUID), "states") }

// State is the folder of one of them.
func (n Node) State(podUID, checkpoint string) string {
	return filepath.Join(n.States(podUID), n.boot(), checkpoint)
}

func (n Node) decisionFile(podUID string) string {
	return filepath.Join(n.Restores(podUID), "decision.json")
}

// ResultFile is where the result of a container is written.
func (n Node) ResultFile(podUID, container string) string {
	return filepath.Join(n.Restores(podUID), "result-"+container+".json")
}

// BegunFile is there, durably, from before the first instruction of a restored container may run. It is made by whoever stands between the OCI
// runtime and CRIU, which alone knows the moment.
func (n Node) BegunFile(podUID, container string) string {
	return filepath.Join(n.Restores(podUID), "begun-"+container)
}

// Result reads the result of a container; fs.ErrNotExist says that nothing was tried, or that the node went down before anything came of it.
func (n Node) Result(podUID, container string) (*Result, error) {
	r := &Result{}
	err := readJSON(n.ResultFile(podUID, container), r)
	if errors.Is(err, errTorn) { // of an attempt that came to nothing
		*r, err = Result{}, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if _, statErr := os.Stat(n.BegunFile(podUID, container)); statErr == nil {
		r.Consumed = true
	}
	return r, err
}
