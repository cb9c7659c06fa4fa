package capture

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/internal/compat"
)

// SchemaVersion is written into every file and must be known to whoever reads it.
const SchemaVersion = 1

// GhostLimit is the size of the largest deleted file that is captured with a process that has it open, in bytes.
const GhostLimit = 512 << 20

// State is how far a capture came.
type State string

// The states of a capture.
const (
	// Dumping: under way, as long as somebody holds the lock of the pod; else cut off.
	Dumping State = "dumping"
	// Dumped: everything is in the folder, perhaps not yet on the disk, and the processes may be gone. Whoever finds it cut off completes it.
	Dumped State = "dumped"
	// Complete: everything is in the folder, under its final name. It is on the disk as well once SyncedFile is there.
	Complete State = "complete"
	// Failed: the process got its stop signal instead.
	Failed State = "failed"
)

// Reason says in one word why a capture failed; a condition carries it on.
type Reason string

// The reasons for which a capture fails.
const (
	// ReasonDumpFailed: CRIU refused. The message is its first error line.
	ReasonDumpFailed Reason = "DumpFailed"
	// ReasonNoSpace: the disk of the node cannot hold it.
	ReasonNoSpace Reason = "NoSpace"
	// ReasonFilesFailed: the files of the pod could not be copied.
	ReasonFilesFailed Reason = "FilesFailed"
	// ReasonFreezeFailed: the containers could not be frozen.
	ReasonFreezeFailed Reason = "FreezeFailed"
	// ReasonInterrupted: whoever captured was killed.
	ReasonInterrupted Reason = "Interrupted"
	// ReasonVolumeSizeExceeded: the state is larger than the settings allow.
	ReasonVolumeSizeExceeded Reason = "VolumeSizeExceeded"
	// ReasonHookFailed: a hook that runs before the capture failed, and says that there is to be none then.
	ReasonHookFailed Reason = "HookFailed"
	// ReasonDeadlineExceeded: the pod's end was ordered, and the capture was not done in the time for which that can be put off.
	ReasonDeadlineExceeded Reason = "DeadlineExceeded"
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{ReasonDumpFailed, ReasonNoSpace, ReasonFilesFailed, ReasonFreezeFailed, ReasonInterrupted, ReasonVolumeSizeExceeded, ReasonHookFailed,
		ReasonDeadlineExceeded}
}

// Capture is the file capture.json of a capture's folder.
type Capture struct {
	SchemaVersion int       `json:"schemaVersion"`
	State         State     `json:"state"`
	Pod           Pod       `json:"pod"`
	Sequence      int       `json:"sequence"`
	Trigger       Trigger   `json:"trigger"`
	Settings      Settings  `json:"settings"`
	Started       time.Time `json:"started"`
	// BootID is that of the node's kernel: what was not on the disk is lost with it.
	BootID string `json:"bootID"`
	// Facts are those of the machine that the program may depend on.
	Facts compat.Facts `json:"facts,omitzero"`
	// Containers are those that were captured, in the order in which they were dumped.
	Containers []Container `json:"containers"`
	// Volumes are the pod's emptyDirs, by name; each is volumes/NAME.tar.
	Volumes []string `json:"volumes,omitempty"`
	// Shm is true where pod/shm.tar holds the pod's /dev/shm.
	Shm bool `json:"shm,omitempty"`
	// SizeBytes is what the folder takes: memory, files and shared memory.
	SizeBytes int64   `json:"sizeBytes,omitempty"`
	Timings   Timings `json:"timings"`
	// Hooks are those that were run around the capture, in their order.
	Hooks   []HookRun `json:"hooks,omitempty"`
	Failure *Failure  `json:"failure,omitempty"`
	// Kept is the file in the pod's storage volume that holds it as well; NotKept says why there is none, though the settings ask for one.
	Kept    *KeptFile `json:"kept,omitempty"`
	NotKept string    `json:"notKept,omitempty"`
}

// Pod says whose capture it is.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// Trigger is what made the runtime capture.
type Trigger struct {
	// Signal is the stop signal, as SIGTERM; empty if the pod goes on after the capture.
	Signal string `json:"signal,omitempty"`
	// Evidence is why the signal was taken to be meant for the whole pod (design C1).
	Evidence Evidence `json:"evidence,omitempty"`
	// Asks is what asked for the capture of a pod that goes on.
	Asks *Asks `json:"asks,omitempty"`
}

// Asks is the Checkpoint for which a pod is captured that goes on.
type Asks struct {
	Checkpoint string `json:"checkpoint"` // its name, in the pod's namespace
	UID        string `json:"uid"`
}

// IsTermination tells whether the pod goes: nothing but the capture has its state then.
func (t Trigger) IsTermination() bool { return t.Signal != "" }

// IsLive tells whether the pod went on, and a Checkpoint asked for that.
func (t Trigger) IsLive() bool { return t.Asks != nil && t.Signal == "" }

// Evidence is a sign that a pod goes, and not one container of it.
type Evidence string

// The kinds of evidence.
const (
	// OnlyContainer: the pod has no other container that runs.
	OnlyContainer Evidence = "OnlyContainer"
	// AllSignalled: every running selected container got a stop signal.
	AllSignalled Evidence = "AllSignalled"
	// Deleting: the agent left a hint that the pod has a deletionTimestamp.
	Deleting Evidence = "Deleting"
)

// Container is one captured container. Its memory is in containers/NAME/criu, its root file system in containers/NAME/rootfs.tar.
type Container struct {
	Name  string `json:"name"`
	ID    string `json:"id"`
	Image string `json:"image"`
	// MemoryBytes is what the processes had in memory of their own: what the container's limit must leave room for.
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// SpecDigest is the SHA-256 of the container's OCI spec.
	SpecDigest string `json:"specDigest"`
	// Security is what its spec allowed it; a container without it is not restored.
	Security *Security `json:"security,omitempty"`
	// Files are what of its volumes is kept; the N-th one, from 0 on, is containers/NAME/files-N.tar.
	Files []Files `json:"files,omitempty"`
}

// Files is a folder in a volume of a container, of which something is kept since its settings asked for that.
type Files struct {
	// Folder is its path in the container, without links.
	Folder string `json:"folder"`
	// Names are those of files in it that are kept; none means all.
	Names []string `json:"names,omitempty"`
}

// Timings are durations in nanoseconds.
type Timings struct {
	// Frozen is the time from the first freeze to the end of the processes, or to their going on.
	Frozen time.Duration `json:"frozen"`
	Dump   time.Duration `json:"dump"`
	Files  time.Duration `json:"files"`
	// Volume is what it took to write it into the pod's storage volume. A pod that goes stands still meanwhile, which Frozen does not count.
	Volume time.Duration `json:"volume,omitempty"`
	// Total is from the signal on until everything was written; the disk may have taken longer to have it all.
	Total time.Duration `json:"total"`
}

// Failure says why there is no state in a capture.
type Failure struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`
	// Errors are the error lines of CRIU's log, the first and the last of them if there are many.
	Errors []string `json:"errors,omitempty"`
	// LogTail is the end of CRIU's log.
	LogTail string `json:"logTail,omitempty"`
}

// Settings are what admission wrote into the annotation memverge.ai/effective; the runtime knows nothing else of what a user asked for.
type Settings struct {
	SchemaVersion int `json:"schemaVersion"`
	// Containers are the names of the selected containers; none means all.
	Containers []string `json:"containers,omitempty"`
	// Sidecars are those of them that kubelet stops after the others: init containers that are restarted.
	Sidecars []string `json:"sidecars,omitempty"`
	// Eager are those of them that are not held after a restore until the others are restored, as kubelet waits for what they do first.
	Eager []string `json:"eager,omitempty"`
	// TCPEstablished is true for a pod that keeps its address: connections to the outside are captured, too.
	TCPEstablished bool `json:"tcpEstablished,omitempty"`
	// VolumeSizeBytes bounds a capture on the node; 0 is no bound.
	VolumeSizeBytes int64 `json:"volumeSizeBytes,omitempty"`
	// GracePeriodSeconds is the pod's grace period.
	GracePeriodSeconds int64 `json:"gracePeriodSeconds,omitempty"`
	// PreStop are the hooks that admission took out of the selected containers. They run only when a capture failed (design C3).
	PreStop []Hook `json:"preStop,omitempty"`
	// PreCheckpoint and PostCheckpoint are run around each capture.
	PreCheckpoint  []Command `json:"preCheckpoint,omitempty"`
	PostCheckpoint []Command `json:"postCheckpoint,omitempty"`
	// PostRestore are run after a restore. Where they are nil a RestorePolicy says which; where they are empty none are.
	PostRestore []Command `json:"postRestore,omitzero"`
	// AllowIOUring has the containers use io_uring, which CRIU cannot dump.
	AllowIOUring bool `json:"allowIOUring,omitempty"`
	// Diagnosis has what a capture or a restore left on the node stay there for a while.
	Diagnosis bool `json:"diagnosis,omitempty"`
	// StorageVolume is the volume of the pod in which its states are kept; without it that is a bucket.
	StorageVolume *StorageVolume `json:"storageVolume,omitempty"`
	// OfContainers is what was asked for single containers, by their names.
	OfContainers map[string]ContainerSettings `json:"ofContainers,omitempty"`
}

// GhostLimitOf is the size of the largest deleted file that is captured with a process of a container that has it open, in bytes: the one that was asked
// for, or GhostLimit.
func (s Settings) GhostLimitOf(container string) int64 {
	limit := int64(GhostLimit)
	for _, option := range s.OfContainers[container].CheckpointOptions {
		if bytes, is := ParseGhostLimit(option); is {
			limit = bytes
		}
	}
	return limit
}

// MaxGhostLimit is the largest size that CRIU can be told, in bytes.
const MaxGhostLimit = math.MaxUint32

// ParseGhostLimit reads an option as "ghost-limit 4194304" or "ghost-limit 4M", of 1 byte or more; false says that it is none. Above MaxGhostLimit it is that.
func ParseGhostLimit(option string) (bytes int64, is bool) {
	words := strings.Fields(option)
	if len(words) != 2 || words[0] != "ghost-limit" {
		return 0, false
	}
	number, shift := words[1], 0
	for unit, bits := range map[string]int{"K": 10, "M": 20, "G": 30} {
		if digits, has := strings.CutSuffix(words[1], unit); has {
			number, shift = digits, bits
		}
	}
	count, err := strconv.ParseUint(number, 10, 62)
	if err != nil || count < 1 {
		return 0, false
	}
	return min(int64(min(count, MaxGhostLimit))<<shift, MaxGhostLimit), true
}

// ContainerSettings are those of one container.
type ContainerSettings struct {
	// CheckpointOptions and RestoreOptions are options of CRIU from the lists that may be asked for, in the words of CRIU's configuration file without
	// the dashes: as "ghost-limit 4M" or "link-remap".
	CheckpointOptions []string `json:"checkpointOptions,omitempty"`
	RestoreOptions    []string `json:"restoreOptions,omitempty"`
	// Files are further files and directories that are captured with it: absolute paths in the container.
	Files []string `json:"files,omitempty"`
}

// Hook is what kubelet would have done in a container before its stop signal: exactly one of Exec and HTTP.
type Hook struct {
	Container string `json:"container"`
	// Exec is the command, as its words.
	Exec []string  `json:"exec,omitempty"`
	HTTP *HTTPHook `json:"http,omitempty"`
}

// HTTPHook is a GET request. An empty Host is the pod's own address.
type HTTPHook struct {
	Scheme  string            `json:"scheme,omitempty"` // http or https; empty is http
	Host    string            `json:"host,omitempty"`
	Port    int               `json:"port"`
	Path    string            `json:"path,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
}

// Selects tells whether a container of that name is captured and restored.
func (s Settings) Selects(name string) bool {
	if len(s.Containers) == 0 {
		return true
	}
	for _, selected := range s.Containers {
		if selected == name {
			return true
		}
	}
	return false
}

// ParseSettings reads the annotation's value.
func ParseSettings(value string) (Settings, error) {
	var s Settings
	if err := json.Unmarshal([]byte(value), &s); err != nil {
		return s, fmt.Errorf("annotation memverge.ai/effective: %w", err)
	}
	if s.SchemaVersion != SchemaVersion {
		return s, fmt.Errorf("annotation memverge.ai/effective: schemaVersion is %d; it may be %d", s.SchemaVersion, SchemaVersion)
	}
	return s, nil
}

// FileName is the name of the file in a capture's folder that a Capture is written to.
const FileName = "capture.json"

// Write writes capture.json into dir in one step.
func (c *Capture) Write(dir string) error {
	c.SchemaVersion = SchemaVersion
	return WriteJSON(filepath.Join(dir, FileName), c)
}

// Read reads capture.json of a capture's folder.
func Read(dir string) (*Capture, error) {
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		return nil, err
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", FileName, dir, err)
	}
	return c, nil
}

// Parse reads what capture.json holds.
func Parse(data []byte) (*Capture, error) {
	c := &Capture{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, err
	}
	if c.SchemaVersion != SchemaVersion {
		return nil, fmt.Errorf("schemaVersion is %d; it may be %d", c.SchemaVersion, SchemaVersion)
	}
	return c, nil
}

// WriteJSON writes a file that is there whole or not at all, also after a power cut.
func WriteJSON(path string, value any) error { return writeJSON(path, value, (*os.File).Sync) }

// NoteJSON writes a file that is there whole or not at all when its writer is killed. After a power cut it may be neither: for what can be found
// out again. It does not wait for the disk, which may have a lot to do.
func NoteJSON(path string, value any) error {
	return writeJSON(path, value, func(*os.File) error { return nil })
}

func writeJSON(path string, value any, sync func(*os.File) error) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(data, '\n'))
	if err = errors.Join(err, sync(file), file.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			err = fmt.Errorf("%w: %w", errTorn, err)
		}
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// errTorn: a power cut has taken what NoteJSON wrote, or a part of it.
var errTorn = errors.New("it was not on the disk when the node went down")
