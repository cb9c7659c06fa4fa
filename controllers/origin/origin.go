// Package origin turns the source of a Checkpoint into what server-side apply takes. It imports nothing of the other controllers.
package origin

import (
	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
)

// Apply returns the whole of a source, as it is to be applied.
func Apply(source v1alpha1.CheckpointSource) *apply.CheckpointSourceApplyConfiguration {
	wanted := apply.CheckpointSource().WithPodUID(source.PodUID).WithNode(source.Node).WithLineage(source.Lineage).WithLabels(source.Labels)
	if source.Identity != "" {
		wanted.WithIdentity(source.Identity)
	}
	if source.RestoreFrom != "" {
		wanted.WithRestoreFrom(source.RestoreFrom)
	}
	if o := source.Owner; o != nil {
		wanted.WithOwner(apply.Owner().WithAPIVersion(o.APIVersion).WithKind(o.Kind).WithName(o.Name).WithUID(o.UID))
	}
	return wanted
}
