package matching

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// A pod that goes on leaves Checkpoints behind it like milestones. What follows keeps its work from being done twice: of what one pod left, at most one
// Checkpoint is ever gone on from, the last one, and none as long as the pod itself goes on.

// isLive tells whether the pod went on after a Checkpoint.
func isLive(c *v1alpha1.Checkpoint) bool { return c.Spec.Trigger.IsLive() }

// isLast tells whether nothing later is known of the captured pod's work: no other Checkpoint of it was taken, and of one from before its end, that it has
// come to its end without leaving more.
func (f Facts) isLast(c *v1alpha1.Checkpoint) bool {
	pod := sourceOf(c).PodUID
	if isLive(c) && f.mayLeaveMore(pod) {
		return false
	}
	for i := range f.Checkpoints {
		x := &f.Checkpoints[i]
		if x.UID == c.UID && x.Name == c.Name || sourceOf(x).PodUID != pod {
			continue
		}
		if x.Status.Claim != nil || isLive(c) && f.isLater(x, c) {
			return false
		}
	}
	return true
}

// isLater tells whether x, of the same pod, takes the place of a Checkpoint from before the pod's end.
func (f Facts) isLater(x, c *v1alpha1.Checkpoint) bool {
	there := f.isCaptured(x) && x.DeletionTimestamp.IsZero() && !isExpired(x)
	switch {
	case isLive(x):
		return there && x.Status.CaptureTime.After(c.Status.CaptureTime.Time) && (f.isThere(x) || f.Patient() && !f.isLost(x))
	case there:
		return !f.isLost(x)
	}
	return !f.isSettled(x) && f.Patient() && x.DeletionTimestamp.IsZero() && !f.isGone(sourceOf(x).Node)
}

// isCaptured tells whether there is a state, on its node at least.
func (f Facts) isCaptured(c *v1alpha1.Checkpoint) bool {
	return c.Status.CaptureTime != nil && c.Status.Source != nil &&
		(meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointCaptured) || f.Here(c))
}

// mayLeaveMore tells whether a pod goes on, is about to be captured for the last time, or has done its work. One whose node does not answer is not waited
// for longer than the policy says.
func (f Facts) mayLeaveMore(podUID types.UID) bool {
	for i := range f.Siblings {
		p := &f.Siblings[i]
		switch {
		case p.UID != podUID:
			continue
		case podspec.HasEnded(p):
			return p.Status.Phase == corev1.PodSucceeded
		case !p.DeletionTimestamp.IsZero():
			return f.Patient() && !f.isGone(p.Spec.NodeName)
		}
		return true
	}
	return false
}

// goesOn tells whether a pod runs, and is not being ended.
func (f Facts) goesOn(podUID types.UID) bool {
	for i := range f.Siblings {
		if p := &f.Siblings[i]; p.UID == podUID {
			return !podspec.HasEnded(p) && p.DeletionTimestamp.IsZero()
		}
	}
	return false
}
