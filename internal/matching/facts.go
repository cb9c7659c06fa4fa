package matching

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Patience bounds how long a new pod waits for a state that is not there yet, from the moment it got its node.
const Patience = 5 * time.Minute

// Facts are what a choice is made by.
type Facts struct {
	// Pod is the new pod, and Own its place among its siblings.
	Pod *corev1.Pod
	Own lineage.Lineage
	// Workload is the value of the label keys.Workload that the pod's Checkpoint would have; empty while nobody had to know.
	Workload string
	// Policy is the one that applies to the pod, see PolicyOf; nil for the defaults.
	Policy *v1alpha1.RestorePolicy
	// Checkpoints are at least those of the pod's lineage, and those of its owner; others do not matter.
	Checkpoints []v1alpha1.Checkpoint
	// Siblings are at least the labelled pods of the pod's lineage and identity, on all nodes.
	Siblings []corev1.Pod
	// Replaces says which pods of an earlier revision a rollout replaces at this moment; empty if none.
	Replaces string
	// Unpublished are captures on this node that the API knows nothing of.
	Unpublished []Unpublished
	// Here tells whether the state of the pod with that UID lies on this node.
	Here func(podUID string) bool
	// Machine is the pod's node; nil when it is not known.
	Machine *compat.Facts
	// Images are the digests of those images of the pod that the node has already, by the names of the containers.
	Images map[string]string
	Now    time.Time
}

// Unpublished is a capture of which there is no Checkpoint yet.
type Unpublished struct {
	PodName string
	Source  v1alpha1.CheckpointSource
	// Begun is when its containers were frozen.
	Begun time.Time
}

// Patient tells whether the pod may still wait.
func (f Facts) Patient() bool { return f.Now.Sub(podspec.BoundSince(f.Pod)) < Patience }

// isRelative tells whether the pod could be restored from a state of that source: it has the same lineage and identity, and is another pod.
func (f Facts) isRelative(source *v1alpha1.CheckpointSource) bool {
	return source != nil && source.Lineage == f.Own.Lineage && source.Identity == f.Own.Identity && source.PodUID != f.Pod.UID
}
