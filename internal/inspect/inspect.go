// Package inspect is what the operator's own pods answer kubectl checkpoint, as JSON: only they reach the buckets and the nodes. Manager and agent have the
// subcommand inspect, which kubectl checkpoint runs in their containers (pods/exec) with the rights of whoever calls it.
//
// Sizes are bytes. A field that is added later is ignored by a kubectl checkpoint that does not know it.
package inspect

import (
	"slices"
	"time"
)

// Level is how it stands with what was checked.
type Level string

// The levels.
const (
	// OK: as it has to be.
	OK Level = "OK"
	// Warn: it works, and something will be lost or refused that a person may count on.
	Warn Level = "WARN"
	// Fail: pods are not captured, or not restored, or states are not stored.
	Fail Level = "FAIL"
)

// Check is one thing that was looked at.
type Check struct {
	// Name is what was looked at, in a few words that do not change.
	Name  string `json:"name"`
	Level Level  `json:"level"`
	// Says is what was found.
	Says string `json:"says"`
	// Mend is what to do about it: a command, or the heading of a document. One that is OK has none.
	Mend string `json:"mend,omitempty"`
}

// Worst is the highest of the levels.
func Worst(checks []Check) Level {
	order := []Level{OK, Warn, Fail}
	worst := 0
	for _, c := range checks {
		worst = max(worst, slices.Index(order, c.Level))
	}
	return order[worst]
}

// Answer is what a manager or an agent says of itself.
type Answer struct {
	// Version is that of the program that answers.
	Version string  `json:"version"`
	Checks  []Check `json:"checks"`
}

// Verification is what came of reading all of a state in its bucket.
type Verification struct {
	Namespace  string `json:"namespace"`
	Checkpoint string `json:"checkpoint"`
	Location   string `json:"location"`
	// Files and Bytes are the files of the state, holes included; Packs and Stored what was read of the bucket.
	Files  int   `json:"files"`
	Bytes  int64 `json:"bytes"`
	Packs  int   `json:"packs"`
	Stored int64 `json:"storedBytes"`
	// Damages are what is not as it was written; none says that the state can be restored as far as that is a matter of the bucket.
	Damages []Damage `json:"damages,omitempty"`
	// Unread are other states of the workload of which it is not known whether they share what is damaged, since their manifests cannot be read.
	Unread []string `json:"unreadable,omitempty"`
}

// Damage is a range of an object that is missing or changed.
type Damage struct {
	// Object is its key in the bucket, below the location's prefix.
	Object string `json:"object"`
	// Offset and Length are the range; both are 0 where that is all of it.
	Offset  int64  `json:"offset,omitempty"`
	Length  int64  `json:"length,omitempty"`
	Problem string `json:"problem"`
	// Files are those of the state that have bytes there.
	Files []string `json:"files,omitempty"`
	// SharedWith are the other Checkpoints of the namespace that need the range, too; a state that no Checkpoint stands for is named as the bucket does.
	SharedWith []string `json:"sharedWith,omitempty"`
}

// Usage is what is in the buckets.
type Usage struct {
	Locations []LocationUsage `json:"locations"`
}

// LocationUsage is what is in the bucket of a location, below its prefix.
type LocationUsage struct {
	Name   string `json:"name"`
	Bucket string `json:"bucket"`
	Prefix string `json:"prefix,omitempty"`
	// Problem says why it could not be looked through, or not to its end.
	Problem string        `json:"problem,omitempty"`
	Folders []FolderUsage `json:"folders,omitempty"`
	// Logs is what archives of logs take that pods asked for.
	Logs int64 `json:"logBytes,omitempty"`
}

// Bytes is what all of it takes.
func (l *LocationUsage) Bytes() int64 {
	sum := l.Logs
	for i := range l.Folders {
		sum += l.Folders[i].Bytes
	}
	return sum
}

// FolderUsage is what the states of a lineage take: those of one revision of a workload, which share what is the same.
type FolderUsage struct {
	Namespace string `json:"namespace"`
	Lineage   string `json:"lineage"`
	// Workload is what made the captured pods, as Deployment/web; empty where no Checkpoint tells.
	Workload    string            `json:"workload,omitempty"`
	Checkpoints []CheckpointUsage `json:"checkpoints,omitempty"`
	Objects     int               `json:"objects"`
	// Bytes is what all objects take, each counted once: what the checkpoints have alone, and Shared, Uploading and Unnamed.
	Bytes     int64 `json:"bytes"`
	Shared    int64 `json:"sharedBytes,omitempty"`
	Uploading int64 `json:"uploadingBytes,omitempty"`
	Unnamed   int64 `json:"unnamedBytes,omitempty"`
}

// CheckpointUsage is what a state takes.
type CheckpointUsage struct {
	// Name is that of its Checkpoint; empty where there is none: then nothing deletes it.
	Name string `json:"name,omitempty"`
	// StorageName is its name in the bucket, and Stored when it was complete there.
	StorageName string    `json:"storageName"`
	Stored      time.Time `json:"stored"`
	// Logical is what its files have; Own what it alone takes in the bucket, and Shared what it has there in common with others.
	Logical int64  `json:"logicalBytes"`
	Own     int64  `json:"ownBytes"`
	Shared  int64  `json:"sharedBytes,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// Logs are what was found of the logs of a capture or restore.
type Logs struct {
	// Looked says where was looked in vain, and why there is nothing.
	Looked []string `json:"looked,omitempty"`
	Found  []Log    `json:"found,omitempty"`
}

// MostLog is how many bytes of a log are shown: its end.
const MostLog = 4 << 20

// Log is one log.
type Log struct {
	// Name is that of the file, and Where the place in which it was found.
	Name  string `json:"name"`
	Where string `json:"where"`
	Text  string `json:"text"`
}

// Sent says at the end of an export what was written, so that who reads it sees that it is whole.
type Sent struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal digits
}

// SentPrefix begins the line with that, on the standard error of the export; behind it is Sent as JSON.
const SentPrefix = "sent: "

// ProgressPrefix begins a line on the standard error of a verification, with two numbers behind it: how many bytes are done, and how many there are.
const ProgressPrefix = "progress: "
