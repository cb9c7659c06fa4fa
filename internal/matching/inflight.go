package matching

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// inFlight returns a sentence, and the name of a node, when a pod of the lineage and identity goes whose state may still come (design M2).
func (f Facts) inFlight() (sentence, node string) {
	settled := map[types.UID]bool{f.Pod.UID: true}
	for i := range f.Checkpoints {
		if f.isSettled(&f.Checkpoints[i]) {
			settled[f.Checkpoints[i].Spec.SourcePodUID] = true
		}
	}
	for i := range f.Siblings {
		p := &f.Siblings[i]
		going := !p.DeletionTimestamp.IsZero() || podspec.IsDisrupted(p)
		if !going || settled[p.UID] || !podspec.IsProtected(p) || p.Spec.NodeName == "" {
			continue
		}
		if own := lineage.Of(p); own.Lineage == f.Own.Lineage && own.Identity == f.Own.Identity {
			return fmt.Sprintf("waiting for the capture of pod %s on %s", p.Name, p.Spec.NodeName), p.Spec.NodeName
		}
	}
	for i := range f.Unpublished {
		if u := &f.Unpublished[i]; f.isRelative(&u.Source) && !settled[u.Source.PodUID] {
			return fmt.Sprintf("waiting until the capture of pod %s is published", u.PodName), u.Source.Node
		}
	}
	for i := range f.Checkpoints {
		c := &f.Checkpoints[i]
		if s := c.Status.Source; !f.isRelative(s) || settled[s.PodUID] || !c.DeletionTimestamp.IsZero() {
			continue
		}
		if f.Now.Sub(c.CreationTimestamp.Time) < Patience {
			return fmt.Sprintf("waiting for the capture of pod %s on %s", c.Spec.SourcePodName, c.Status.Source.Node), c.Status.Source.Node
		}
	}
	return "", ""
}

// isSettled tells whether it is known what came of a capture: a state, or that there will be none.
func (f Facts) isSettled(c *v1alpha1.Checkpoint) bool {
	if c.Status.CaptureTime != nil && f.Here(string(c.Spec.SourcePodUID)) { // whatever the disk still has to do
		return true
	}
	captured := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointCaptured)
	if captured != nil && (captured.Status == metav1.ConditionTrue || captured.Reason != v1alpha1.StatePending && captured.Reason != v1alpha1.StateDumping) {
		return true
	}
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady)
	return ready != nil && (ready.Reason == v1alpha1.StateFailed || ready.Reason == v1alpha1.StateDiscarded) // the manager knows that nothing will come
}
