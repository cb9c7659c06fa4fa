package capture

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// LastCheckpoint is the name of the Checkpoint of a pod's last capture, for logs: v1alpha1.TerminationName, of which the runtime must not know, says the same.
// It is empty where the name of the pod is not known.
func (p Pod) LastCheckpoint() string {
	const most, digits = 63, 8
	if p.Name == "" {
		return ""
	}
	suffix := "-" + p.UID[:min(digits, len(p.UID))]
	if len(p.Name)+len(suffix) <= most {
		return p.Name + suffix
	}
	sum := sha256.Sum256([]byte(p.Name))
	suffix = "-" + hex.EncodeToString(sum[:])[:digits] + suffix
	return strings.TrimRight(p.Name[:most-len(suffix)], "-.") + suffix
}

// CheckpointName is the name of the Checkpoint of a capture: the one that asked for it, or that of the pod's last one.
func (c *Capture) CheckpointName() string {
	if c.Trigger.IsLive() {
		return c.Trigger.Asks.Checkpoint
	}
	return c.Pod.LastCheckpoint()
}
