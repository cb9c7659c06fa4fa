package matching

import (
	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// What follows is about pods that name a Checkpoint by restore-from: it is where their line begins, and serves any number of them. What a pod of the line
// leaves is claimed like all else, so that no work of the line is done twice or lost.

// isOfLine tells whether what another pod left belongs to the line of this one: both name the same, or this one names nothing.
func (f Facts) isOfLine(k kin) bool {
	return f.Own.RestoreFrom == "" || k.source.RestoreFrom == f.Own.RestoreFrom
}

// isBeginning tells whether it is the Checkpoint that the pod's line begins from.
func (f Facts) isBeginning(c *v1alpha1.Checkpoint) bool {
	return f.Own.RestoreFrom != "" && c.Name == f.Own.RestoreFrom
}

// chooseBeginning is the rule for the Checkpoint that the pod names, of which it does not matter who left it and who has it. Where the pod can write to a
// volume that outlives it, that volume is another's, or has gone on since.
func (f Facts) chooseBeginning() Choice {
	name := f.Own.RestoreFrom
	c := f.find(name)
	if c == nil {
		return cold(keys.ColdCheckpointNotFound, "%s names Checkpoint %s, which there is not in namespace %s", keys.RestoreFrom, name, f.Pod.Namespace)
	}
	if !c.DeletionTimestamp.IsZero() {
		return f.namedCold(keys.ColdCheckpointNotReady, "Checkpoint %s is being deleted", name)
	}
	if why := lost(c); why != "" {
		return f.namedCold(keys.ColdCheckpointNotReady, "Checkpoint %s cannot be restored: %s", name, why)
	}
	if volumes := f.AdvancedVolumes(); len(volumes) > 0 {
		return f.namedCold(keys.ColdVolumeAdvanced, "Checkpoint %s is from before what the %s by now, unless volumeChanges of the pod's RestorePolicy is %s",
			name, holds(volumes), v1alpha1.VolumeChangesRestore)
	}
	return f.namedWhenThere(c)
}

// expectedBeginning says what Expected does for a pod that names a Checkpoint.
func (f Facts) expectedBeginning() (checkpoint *v1alpha1.Checkpoint, node string) {
	c := f.find(f.Own.RestoreFrom)
	switch {
	case c == nil || !c.DeletionTimestamp.IsZero() || lost(c) != "":
		return nil, ""
	case c.Status.CaptureTime == nil:
		return nil, kinOf(c).source.Node
	}
	return c, ""
}
