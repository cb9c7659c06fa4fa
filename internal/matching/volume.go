package matching

import (
	"errors"
	"fmt"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// otherVolumeError says that a state is kept in a volume that the pod does not have for that.
type otherVolumeError struct{ has, wants string }

func (e *otherVolumeError) Error() string {
	return fmt.Sprintf("it is kept in %s, and %s", e.has, e.wants)
}

// mismatchReason is the reason of a cold start on account of a mismatch.
func mismatchReason(err error) string {
	if errors.As(err, new(*otherVolumeError)) {
		return keys.ColdOtherVolume
	}
	return keys.ColdIncompatible
}

// elsewhere returns an error for a state in a volume that the pod does not have as its storage volume, unless the node has a copy of it.
func (f Facts) elsewhere(c *v1alpha1.Checkpoint) error {
	kept := c.Status.Volume
	if kept == nil || f.Here(c) {
		return nil
	}
	settings, err := capture.ParseSettings(f.Pod.Annotations[keys.Effective])
	own := settings.StorageVolume
	switch {
	case err != nil || own == nil:
		return &otherVolumeError{kept.String(), "the pod has no " + keys.CheckpointStorageVolume}
	case own.Kind != string(kept.Kind) || own.Source != kept.Source:
		return &otherVolumeError{kept.String(), fmt.Sprintf("the pod keeps its states in %s", own)}
	case kept.Kind == v1alpha1.VolumeHostPath && sourceOf(c).Node != f.Pod.Spec.NodeName:
		return &otherVolumeError{kept.String(), fmt.Sprintf("that is a folder of node %s; this is node %s", sourceOf(c).Node, f.Pod.Spec.NodeName)}
	}
	return nil
}
