package capture

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Node is the part of a node's file system in which runtime and agent meet. Root is "/" but in tests and in the agent's own pod. All
// folders are root's alone.
type Node struct {
	Root string
	// HomeDir is the folder on the node in which the runtime is installed; empty means DefaultHome.
	HomeDir string
}

// DefaultHome is where the runtime is installed on a node that can be written to there.
const DefaultHome = "/opt/checkpoint"

// DiagnosisRoot is where folders of captures stay for whoever looks for a cause, if their pods ask for it.
func (n Node) DiagnosisRoot() string { return filepath.Join(n.Root, "var/lib/checkpoint/diagnosis") }

// CapturesRoot holds a folder for each pod that was captured, named by the pod's UID.
func (n Node) CapturesRoot() string { return filepath.Join(n.Root, "var/lib/checkpoint/captures") }

// Captures holds the captures of a pod: SEQ is complete or failed, SEQ.partial is under way or cut off. Beside the runtime's files the agent
// keeps its own in them, with names that begin with "agent".
func (n Node) Captures(podUID string) string { return filepath.Join(n.CapturesRoot(), podUID) }

// RestoresRoot holds a folder for each pod that something was decided for, named by the pod's UID.
func (n Node) RestoresRoot() string { return filepath.Join(n.Root, "var/lib/checkpoint/restores") }

// Restores holds decision and results of a pod, and what was fetched for it.
func (n Node) Restores(podUID string) string { return filepath.Join(n.RestoresRoot(), podUID) }

// PodHints holds what is known of a pod in this boot: the hints of the agent (DeletingHint, WaitingHint), and the runtime's own notes.
func (n Node) PodHints(podUID string) string { return filepath.Join(n.PodsRoot(), podUID) }

// PodsRoot holds the hints of all pods. The agent removes those of pods that are gone.
func (n Node) PodsRoot() string { return filepath.Join(n.Root, "run/checkpoint/pods") }

// Containers holds what the runtime remembers of each container of this boot.
func (n Node) Containers() string { return filepath.Join(n.Root, "run/checkpoint/containers") }

// AgentLock is held by a live agent (flock, exclusive) for as long as it can answer.
func (n Node) AgentLock() string { return filepath.Join(n.Root, "run/checkpoint/agent.lock") }

// Home is where the agent installs the runtime: bin/checkpoint-runtime, lib/, criu/ and RuntimeConfigFile. The programs are links to those of the newest
// version, which lie in versions/DIGEST.
func (n Node) Home() string { return filepath.Join(n.Root, cmp.Or(n.HomeDir, DefaultHome)) }

// Versions is the name of the folder in Home that holds a folder for each version of the programs.
const Versions = "versions"

// HomeOf returns the Home of a program that lies in its folder bin, be it a version's or that of Home itself.
func HomeOf(program string) string {
	dir := filepath.Dir(filepath.Dir(program))
	if above := filepath.Dir(dir); filepath.Base(above) == Versions {
		return filepath.Dir(above)
	}
	return dir
}

// The hints of the agent on a pod.
const (
	// DeletingHint: a file that is there from when the agent saw the pod's deletionTimestamp.
	DeletingHint = "deleting"
	// WaitingHint: a sentence that says what the decision for the pod waits for, as "fetching 3.1 of 8 GiB". The gate repeats it.
	WaitingHint = "waiting"
	// FailingHint: the name of the RestorePolicy by which the pod must not start cold, while nothing is decided. Without an agent the gate keeps to it.
	FailingHint = "failing"
	// PausedHint: a sentence that says why the pod is not captured, as long as it is there.
	PausedHint = "paused"
)

// DiscardedFile is written by the runtime into the folder of a capture that is not wanted: its pod went on. It holds a sentence for a person.
const DiscardedFile = "discarded"

// AgentLives tells whether somebody holds the lock of the agent.
func (n Node) AgentLives() bool {
	file, err := os.Open(n.AgentLock())
	if err != nil {
		return false
	}
	defer file.Close()
	return errors.Is(tryLock(file, shared), errLocked)
}

// UploadedFile is written by the agent into the folder of a capture that is in the bucket.
const UploadedFile = "agent-uploaded"

// SyncedFile lies in the folder of a complete capture whose bytes are all on the disk.
const SyncedFile = "synced"

// IsSynced tells whether a complete capture survives a power cut.
func IsSynced(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, SyncedFile))
	return err == nil
}

// BootID is that of the running kernel, as the node's first process sees it: so it is the same for runtime and agent.
func (n Node) BootID() (string, error) {
	const file = "proc/sys/kernel/random/boot_id"
	data, err := os.ReadFile(filepath.Join(n.Root, "proc/1/root", file))
	if err != nil {
		data, err = os.ReadFile(filepath.Join(n.Root, file))
	}
	return strings.TrimSpace(string(data)), err
}

// boot is BootID, or nothing where that cannot be read.
func (n Node) boot() string {
	id, _ := n.BootID()
	return id
}

// IsWhole tells of a complete capture whether all of it can be read: it is on the disk, or the node has not gone down since it was begun.
func (n Node) IsWhole(dir string, record *Capture) bool {
	boot, err := n.BootID()
	return IsSynced(dir) || err == nil && boot == record.BootID
}

// RuntimeConfigFile is the name of the file in Home that holds a RuntimeConfig.
const RuntimeConfigFile = "runtime.json"

// RuntimeConfig says what the runtime works with on this node. The agent writes it.
type RuntimeConfig struct {
	SchemaVersion int `json:"schemaVersion"`
	// Runtime is the path of the OCI runtime that ours stands before: that of the node's default handler.
	Runtime string `json:"runtime"`
	// Runtimes are those of the node's other handlers before which ours stands, by their names. Ours is called bin/checkpoint-runtime-NAME for them.
	Runtimes map[string]string `json:"runtimes,omitempty"`
	// CRIUDirectory is the folder that holds criu. It is put first into the PATH of the OCI runtime.
	CRIUDirectory string `json:"criuDirectory"`
	// KubeletRoot is kubelet's folder; empty means /var/lib/kubelet.
	KubeletRoot string `json:"kubeletRoot,omitempty"`
}

// Write writes the configuration into the folder home in one step.
func (c RuntimeConfig) Write(home string) error {
	c.SchemaVersion = SchemaVersion
	return WriteJSON(filepath.Join(home, RuntimeConfigFile), c)
}

// ReadRuntimeConfig reads the configuration in the folder home.
func ReadRuntimeConfig(home string) (*RuntimeConfig, error) {
	c := &RuntimeConfig{KubeletRoot: "/var/lib/kubelet"}
	return c, readJSON(filepath.Join(home, RuntimeConfigFile), c)
}

// For returns the configuration for the name by which the runtime was called: that of its program, or with a handler's name behind it.
func (c RuntimeConfig) For(program string) (RuntimeConfig, error) {
	name, variant := strings.CutPrefix(filepath.Base(program), RuntimeProgram+"-")
	if !variant {
		return c, nil
	}
	if c.Runtime = c.Runtimes[name]; c.Runtime == "" {
		return c, fmt.Errorf("%s: runtimes has no %q, the name by which this program was called", RuntimeConfigFile, name)
	}
	return c, nil
}

// RuntimeProgram is the name of the program of the runtime.
const RuntimeProgram = "checkpoint-runtime"

// Hint writes a hint on a pod in one step.
func (n Node) Hint(podUID, name, text string) error {
	dir := n.PodHints(podUID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temporary := filepath.Join(dir, name+".new")
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(dir, name))
}

// ReadHint returns a hint on a pod, and whether there is one.
func (n Node) ReadHint(podUID, name string) (text string, there bool) {
	data, err := os.ReadFile(filepath.Join(n.PodHints(podUID), name))
	return strings.TrimSpace(string(data)), err == nil
}

// DropHint removes a hint; that there is none is no error.
func (n Node) DropHint(podUID, name string) error {
	err := os.Remove(filepath.Join(n.PodHints(podUID), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
