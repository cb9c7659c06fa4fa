package v1alpha1

import (
	"cmp"
	"fmt"
	"slices"
)

// DefaultLocation is the location in which new Checkpoints are stored: of those with the role Default the oldest, or the first by name among
// equally old ones, so that agents and manager choose the same; nil when there is none. A location that is being deleted does not count.
func DefaultLocation(locations []CheckpointStorageLocation) *CheckpointStorageLocation {
	var candidates []*CheckpointStorageLocation
	for i := range locations {
		if l := &locations[i]; l.Spec.Role == RoleDefault && l.DeletionTimestamp.IsZero() {
			candidates = append(candidates, l)
		}
	}
	if len(candidates) == 0 {
		return nil
	}
	return slices.MinFunc(candidates, func(a, b *CheckpointStorageLocation) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// UploadLocation is the location in which a new Checkpoint is stored whose pod has that policy, or none (nil): the one that the policy names, or the
// default. When there is none that takes it, the location is nil, and reason and message say why, as conditions do.
func UploadLocation(policy *CheckpointPolicy, locations []CheckpointStorageLocation) (location *CheckpointStorageLocation, reason, message string) {
	if policy == nil || policy.Spec.StorageLocation == "" {
		if location = DefaultLocation(locations); location == nil {
			return nil, ReasonNoStorageLocation, "no CheckpointStorageLocation has the role Default; the state stays on the node until there is one"
		}
	} else {
		name := policy.Spec.StorageLocation
		i := slices.IndexFunc(locations, func(l CheckpointStorageLocation) bool { return l.Name == name && l.DeletionTimestamp.IsZero() })
		if i < 0 {
			return nil, ReasonLocationNotFound, fmt.Sprintf("there is no CheckpointStorageLocation %q, which CheckpointPolicy %s names; "+
				"the state stays on the node until there is one", name, policy.Name)
		}
		location = &locations[i]
	}
	if location.IsReadOnly() {
		return nil, ReasonLocationReadOnly, ReadOnlyMessage(location.Name)
	}
	return location, "", ""
}

// ReadOnlyMessage says of a Checkpoint that belongs into that location why it is not there.
func ReadOnlyMessage(location string) string {
	return fmt.Sprintf("CheckpointStorageLocation %q has the accessMode ReadOnly; the state stays on the node until it can be written to", location)
}

// IsReadOnly tells whether nothing may be written to a location, or deleted in it.
func (l *CheckpointStorageLocation) IsReadOnly() bool { return l.Spec.AccessMode == AccessReadOnly }
