package matching

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// patience bounds what the policy's waitFor does not: how long after its begin a capture may still become something, and for how long
// a state that is there, and cannot be fetched, is tried again.
const patience = 5 * time.Minute

// Facts are what a choice is made by.
type Facts struct {
	// Pod is the new pod, and Own its place among its siblings.
	Pod *corev1.Pod
	Own lineage.Lineage
	// Workload is the value of the label keys.Workload that the pod's Checkpoint would have; empty while nobody had to know.
	Workload string
	// Policy is the one that applies to the pod, see PolicyOf; nil for the defaults.
	Policy *v1alpha1.RestorePolicy
	// Checkpoints are at least those of the pod's lineage, those of its workload if LooksWider, and the one of the name Named; others do not matter.
	Checkpoints []v1alpha1.Checkpoint
	// Siblings are at least the labelled pods of the pod's lineage and identity, on all nodes, and those of which there are Checkpoints though they go on.
	Siblings []corev1.Pod
	// Replaces says which pods of an earlier revision a rollout replaces at this moment; empty if none.
	Replaces string
	// Unpublished are captures on this node that the API knows nothing of.
	Unpublished []Unpublished
	// Here tells whether the state of a Checkpoint lies on this node.
	Here func(*v1alpha1.Checkpoint) bool
	// Gone tells whether it is known of a node that nothing comes from it any more; nil where nobody knows.
	Gone func(node string) bool
	// Machine is the pod's node; nil when it is not known.
	Machine *compat.Facts
	// Images are the digests of those images of the pod that the node has already, by the names of the containers.
	Images map[string]string
	Now    time.Time
	// Served is since when there is somebody on the node who could fetch a state.
	Served time.Time
}

// Unpublished is a capture of which there is no Checkpoint yet.
type Unpublished struct {
	PodName string
	Source  v1alpha1.CheckpointSource
	// Begun is when its containers were frozen.
	Begun time.Time
}

// Patient tells whether the pod may still wait for a state that is on its way.
func (f Facts) Patient() bool { return f.waited() < f.waitFor() }

// isGone tells whether nothing comes any more from a node.
func (f Facts) isGone(node string) bool { return node != "" && f.Gone != nil && f.Gone(node) }

// isLost tells whether a state was on a node alone that is gone.
func (f Facts) isLost(c *v1alpha1.Checkpoint) bool {
	return !f.isThere(c) && f.isGone(sourceOf(c).Node)
}

// MayFetch tells whether a state that could not be fetched may be tried again. A policy by which the pod waits for longer makes this longer, too.
// It begins anew with the agent, for a pod may have waited while its node was down.
func (f Facts) MayFetch() bool {
	return min(f.waited(), f.Now.Sub(f.Served)) < max(patience, f.waitFor())
}

// waited is for how long the pod has been waiting on its node.
func (f Facts) waited() time.Duration { return f.Now.Sub(podspec.BoundSince(f.Pod)) }

func (f Facts) waitFor() time.Duration {
	if f.Policy != nil && f.Policy.Spec.WaitFor != nil {
		return f.Policy.Spec.WaitFor.Duration
	}
	return v1alpha1.DefaultWaitFor
}

func (f Facts) maxAge() time.Duration {
	if f.Policy != nil && f.Policy.Spec.MaxAge != nil {
		return f.Policy.Spec.MaxAge.Duration
	}
	return v1alpha1.DefaultMaxAge
}

// Fails tells whether the policy keeps a pod that cannot be restored from starting.
func (f Facts) Fails() bool {
	return f.Policy != nil && f.Policy.Spec.Fallback == v1alpha1.FallbackFail
}

// LooksWider tells whether the choice needs what all revisions of the pod's workload left: to restore it, or to say why the pod starts cold.
func (f Facts) LooksWider() bool {
	return f.Policy != nil && f.Policy.Spec.Mode != v1alpha1.RestoreDisabled && (f.restoresOtherRevisions() || f.isNamed()) ||
		Choose(f).Cold == keys.ColdNoCheckpoint
}

// Named is the name of the Checkpoint that the pod names, or else its policy, which may be anybody's; empty if neither does.
func (f Facts) Named() string {
	if f.isNamed() {
		return f.Policy.Spec.CheckpointName
	}
	return f.Own.RestoreFrom
}
