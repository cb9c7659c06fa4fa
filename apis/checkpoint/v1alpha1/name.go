package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// MaxNameLength bounds the names of Checkpoints and CheckpointStorageLocations, so that each can be the value of a label.
const MaxNameLength = 63

// The digits of a UID and of a hash that stand in a name.
const nameDigits = 8

// IsName tells whether a Checkpoint can have that name.
func IsName(name string) bool {
	return len(name) <= MaxNameLength && len(validation.IsDNS1123Subdomain(name)) == 0
}

// TerminationName is the name of the Checkpoint of a pod that is terminated: POD-UID8. Whoever sees the termination first, manager or
// agent, makes the Checkpoint; the other finds it by this name. The name of a pod for which there is no room is cut short, and a hash of
// the whole is put behind it.
func TerminationName(podName string, podUID types.UID) string { return nameFor(podName, podUID, "") }

// LiveName is the name of a Checkpoint of a pod that goes on, which the manager makes: POD-UID8-WHICH. The same wish leads to the same name.
func LiveName(podName string, podUID types.UID, which string) string {
	return nameFor(podName, podUID, "-"+which)
}

func nameFor(podName string, podUID types.UID, suffix string) string {
	uid := string(podUID)
	suffix = "-" + uid[:min(nameDigits, len(uid))] + suffix
	room := MaxNameLength - len(suffix)
	if len(podName) <= room {
		return podName + suffix
	}
	sum := sha256.Sum256([]byte(podName))
	suffix = "-" + hex.EncodeToString(sum[:])[:nameDigits] + suffix
	return strings.TrimRight(podName[:MaxNameLength-len(suffix)], "-.") + suffix
}

// StorageName is the name under which the state of a Checkpoint lies in its location.
func (c *Checkpoint) StorageName() string {
	if c.Status.StorageName != "" {
		return c.Status.StorageName
	}
	return string(c.UID)
}

// IsRecreated tells whether a Checkpoint was made anew from what its location holds: by another cluster, or by this one before the object was lost.
func (c *Checkpoint) IsRecreated() bool { return c.Status.StorageName != "" }
