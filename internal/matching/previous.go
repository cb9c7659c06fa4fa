package matching

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// GoesBack tells whether the policy has a pod that cannot be restored from the last state go on from the one before.
func (f Facts) GoesBack() bool {
	return f.Policy != nil && f.Policy.Spec.Fallback == v1alpha1.FallbackPrevious
}

// Before returns the Checkpoint to go on from in place of one that does not serve: the one that the captured pod was itself restored from or, where
// no other pod can take up the work, the newest before it that nobody took; at last the one that the line began from. It must be there, and do for node
// and pod. Who holds the later one is the only one that comes to it. Nil is none; why says so when there is one that must not be taken.
func (f Facts) Before(c *v1alpha1.Checkpoint) (before *v1alpha1.Checkpoint, why string) {
	if !f.GoesBack() {
		return nil, ""
	}
	for i := range f.Checkpoints {
		if x := &f.Checkpoints[i]; f.isPast(x, c) && (before == nil || x.Status.CaptureTime.After(before.Status.CaptureTime.Time)) {
			before = x
		}
	}
	if before == nil {
		return nil, ""
	}
	if volumes := f.AdvancedVolumes(); len(volumes) > 0 {
		return nil, fmt.Sprintf("Checkpoint %s is from before what the %s by now", before.Name, holds(volumes))
	}
	return before, ""
}

// isPast tells whether x is from the past of what c is from, and can be restored.
func (f Facts) isPast(x, c *v1alpha1.Checkpoint) bool {
	switch {
	case x.Name == c.Name || !x.DeletionTimestamp.IsZero() || x.Status.CaptureTime == nil || isExpired(x):
		return false
	case !f.isBeginning(x) && (!f.isRelative(kinOf(x)) || f.isTooOld(x)):
		return false
	case !x.Status.CaptureTime.Time.Before(capturedAt(c)) || !meta.IsStatusConditionTrue(x.Status.Conditions, v1alpha1.CheckpointUploaded):
		return false
	case f.lacks(x) != "" || f.mismatch(x) != nil:
		return false
	}
	of := sourceOf(c).PodUID
	return f.isBeginning(x) || x.Status.Claim == nil && (f.hasPlace() || isLive(x) && sourceOf(x).PodUID == of) || f.wentOnFrom(of, x)
}

// wentOnFrom tells whether a pod was restored from a Checkpoint, by its own claim or in place of one that it claimed.
func (f Facts) wentOnFrom(podUID types.UID, x *v1alpha1.Checkpoint) bool {
	for i := range f.Checkpoints {
		c := &f.Checkpoints[i]
		claim := c.Status.Claim
		if claim == nil || claim.PodUID != podUID || claim.Phase != v1alpha1.ClaimConsumed {
			continue
		}
		if claim.RestoredFrom == x.Name || claim.RestoredFrom == "" && c.Name == x.Name {
			return true
		}
	}
	return false
}

func capturedAt(c *v1alpha1.Checkpoint) time.Time {
	if c.Status.CaptureTime != nil {
		return c.Status.CaptureTime.Time
	}
	return c.CreationTimestamp.Time
}

// orBefore is what is to be done about a pod that cannot be restored from a Checkpoint for which nobody waits any more: go on from the one before, or
// what there is to do otherwise.
func (f Facts) orBefore(c *v1alpha1.Checkpoint, otherwise Choice) Choice {
	before, why := f.Before(c)
	switch {
	case before != nil:
		return Choice{Claim: c, From: before, Message: otherwise.Message}
	case why != "":
		return cold(keys.ColdVolumeAdvanced, "%s; %s", otherwise.Message, why)
	}
	return otherwise
}

// orBeforeFailed is orBefore of the last capture of which there is no state.
func (f Facts) orBeforeFailed(otherwise Choice) Choice {
	if !f.GoesBack() {
		return otherwise
	}
	var last *v1alpha1.Checkpoint
	for i := range f.Checkpoints {
		c := &f.Checkpoints[i]
		if c.Status.Claim == nil && f.hasFailed(c) && (last == nil || capturedAt(c).After(capturedAt(last))) {
			last = c
		}
	}
	if last == nil {
		return otherwise
	}
	if p := f.stillThere(sourceOf(last).PodUID); p != "" { // it has its signal, and does what it does upon that
		if f.Patient() {
			return wait("waiting for pod %s to end, which could not be captured", p)
		}
		return otherwise
	}
	c := f.orBefore(last, nothingOf(last))
	if c.Claim == nil && f.Own.RestoreFrom != "" { // of its line there is nothing
		return otherwise
	}
	return c
}

func nothingOf(c *v1alpha1.Checkpoint) Choice {
	return cold(keys.ColdNoCheckpoint, "there is nothing of Checkpoint %s: %s", c.Name, strings.TrimSuffix(lost(c), "."))
}

// hasFailed tells whether it is known that there is no state of a capture that was to leave one. The node's word is enough: the manager may be away.
func (f Facts) hasFailed(c *v1alpha1.Checkpoint) bool {
	if isLive(c) || !f.isRelative(kinOf(c)) || !c.DeletionTimestamp.IsZero() {
		return false
	}
	if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady); ready != nil && ready.Reason == v1alpha1.StateFailed {
		return true
	}
	captured := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointCaptured)
	if captured == nil || captured.Status != metav1.ConditionFalse {
		return false
	}
	switch captured.Reason {
	case v1alpha1.StatePending, v1alpha1.StateDumping, v1alpha1.StateDiscarded, v1alpha1.ReasonSourceExited:
		return false
	}
	return true
}

// stillThere returns the name of a pod that has not ended yet.
func (f Facts) stillThere(podUID types.UID) string {
	for i := range f.Siblings {
		if p := &f.Siblings[i]; p.UID == podUID && !podspec.HasEnded(p) {
			return p.Name
		}
	}
	return ""
}

// AdvancedVolumes are those volumes of the pod that outlive it, which the policy does not allow to be ahead of a state that is restored.
func (f Facts) AdvancedVolumes() []string {
	if f.Policy != nil && f.Policy.Spec.VolumeChanges == v1alpha1.VolumeChangesRestore {
		return nil
	}
	return podspec.LastingVolumes(f.Pod)
}

// holds is volume "a", "b" and the verb that goes with it.
func holds(volumes []string) string {
	if len(volumes) == 1 {
		return fmt.Sprintf("volume %q", volumes[0]) + " holds"
	}
	return `volumes "` + strings.Join(volumes, `", "`) + `" hold`
}

// Attempts is how often the restore of a container from one state is begun.
func (f Facts) Attempts() int {
	if f.Policy != nil && f.Policy.Spec.Attempts != nil {
		return int(*f.Policy.Spec.Attempts)
	}
	return v1alpha1.DefaultAttempts
}

// ContainerRestarts is how many times a container that kubelet starts again is restored again from one state, and why it is not, though the policy would
// have it.
// Captured is how many containers the state has, or may have.
func (f Facts) ContainerRestarts(captured int) (times int, why string) {
	if f.Policy == nil || f.Policy.Spec.ContainerRestarts == nil || f.Policy.Spec.Mode == v1alpha1.RestoreDisabled || podspec.StartsCold(f.Pod) {
		return 0, ""
	}
	if captured > 1 {
		return 0, fmt.Sprintf("it was captured together with %d others, which have moved on", captured-1)
	}
	if volumes := f.AdvancedVolumes(); len(volumes) > 0 {
		return 0, fmt.Sprintf("%s: the state is from before what %s", keys.ColdVolumeAdvanced, holds(volumes))
	}
	return int(*f.Policy.Spec.ContainerRestarts), ""
}
