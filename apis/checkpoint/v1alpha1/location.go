package v1alpha1

import (
	"cmp"
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
