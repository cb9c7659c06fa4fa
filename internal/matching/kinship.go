package matching

import (
	"fmt"
	"strings"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// kinship is how a pod is related to the one that left a state.
type kinship int

const (
	// stranger: of another owner, or another place in it, or of a line that began elsewhere; or the pod itself.
	stranger kinship = iota
	// otherRevision: the same owner and place, another revision of the template.
	otherRevision
	// sameRevision: the same lineage and identity.
	sameRevision
)

// kin is what is known of a pod that left a state, or will.
type kin struct {
	podName string
	source  v1alpha1.CheckpointSource
	// workload is the value of the label keys.Workload of its Checkpoint; empty where there is none.
	workload string
	// recreated says that its Checkpoint was made anew from a bucket: its owner may be that of another cluster.
	recreated bool
}

func kinOf(c *v1alpha1.Checkpoint) kin {
	return kin{c.Spec.SourcePodName, sourceOf(c), c.Labels[keys.Workload], c.IsRecreated()}
}

// kinship tells how the pod is related to another.
func (f Facts) kinship(k kin) kinship {
	switch {
	case k.source.Lineage == "" || k.source.PodUID == f.Pod.UID || k.source.Identity != f.Own.Identity || !f.isOfLine(k):
		return stranger
	case k.source.Lineage == f.Own.Lineage:
		return sameRevision
	case f.hasTwin(k) && k.source.Lineage == lineage.Under(f.Pod, k.source.Owner.UID).Lineage:
		return sameRevision
	case f.hasOwner(k):
		return otherRevision
	}
	return stranger
}

// isRelative tells whether the pod could be restored from what another left.
func (f Facts) isRelative(k kin) bool {
	kin := f.kinship(k)
	return kin == sameRevision || kin == otherRevision && f.restoresOtherRevisions()
}

// restoresOtherRevisions tells whether the policy lets a pod go on from what another revision of its template left.
func (f Facts) restoresOtherRevisions() bool {
	return f.Policy != nil && f.Policy.Spec.TemplateChanges == v1alpha1.TemplateChangesRestore
}

// hasPlace tells whether no other pod can take up what the pod does: it has a name or an index of its own.
func (f Facts) hasPlace() bool { return f.Own.Owner == nil || f.Own.Identity != "" }

// hasOwner tells whether another pod had the pod's own owner, whatever the revision. A plain pod has none; it is known by its name. Revisions of a Deployment
// are ReplicaSets: that one Deployment made both is told by the label of the Checkpoint, which a person can write, and by the names of the ReplicaSets
// in its status, which only our own parts can.
func (f Facts) hasOwner(k kin) bool {
	own, theirs := f.Own.Owner, k.source.Owner
	switch {
	case lineage.IsUnknown(k.source.Lineage):
		return false
	case own == nil && theirs == nil:
		return k.podName == f.Pod.Name
	case own == nil || theirs == nil:
		return false
	case own.UID == theirs.UID || f.hasTwin(k):
		return true
	}
	deployment := deploymentOf(own)
	return f.Workload != "" && k.workload == f.Workload && deployment != "" && deployment == deploymentOf(theirs)
}

// hasTwin tells whether another pod's owner is what the pod's own is in the cluster of then: one of the same kind and name. That counts only for a Checkpoint
// that was made anew, and if a policy names it: a cluster that stands by for another must not take over the work of one that lives.
func (f Facts) hasTwin(k kin) bool {
	own, theirs := f.Own.Owner, k.source.Owner
	if !k.recreated || !f.isNamed() || own == nil || theirs == nil || own.Kind != theirs.Kind || group(own) != group(theirs) {
		return false
	}
	deployment := deploymentOf(own)
	return own.Name == theirs.Name || deployment != "" && deployment == deploymentOf(theirs)
}

func group(owner *v1alpha1.Owner) string {
	if group, _, found := strings.Cut(owner.APIVersion, "/"); found {
		return group
	}
	return ""
}

// hasWorkload tells whether the label of a Checkpoint says that another ReplicaSet of the pod's Deployment left it. That is enough for a reason to start cold.
func (f Facts) hasWorkload(c *v1alpha1.Checkpoint) bool {
	s := c.Status.Source
	return f.Workload != "" && c.Labels[keys.Workload] == f.Workload && s != nil && s.Lineage != f.Own.Lineage && s.Identity == f.Own.Identity &&
		f.Own.Owner != nil && lineage.KindOf(s.Owner) == lineage.ReplicaSet
}

// deploymentOf returns the name of the Deployment that made a ReplicaSet, one for each revision, named DEPLOYMENT-REVISION. A revision
// has no hyphen in it.
func deploymentOf(owner *v1alpha1.Owner) string {
	i := strings.LastIndexByte(owner.Name, '-')
	if lineage.KindOf(owner) != lineage.ReplicaSet || i <= 0 {
		return ""
	}
	return owner.Name[:i]
}

// lacks says which container of another revision the pod has not, so that half of what was captured together would go on; nothing if it has all.
func (f Facts) lacks(c *v1alpha1.Checkpoint) string {
	if f.kinship(kinOf(c)) != otherRevision {
		return ""
	}
	for _, captured := range c.Status.Containers {
		if f.container(captured.Name) == nil {
			return fmt.Sprintf("Checkpoint %s has the container %q, which the pod has not", c.Name, captured.Name)
		}
	}
	return ""
}
