package matching

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// isNamed tells whether the policy names the one Checkpoint that the pod may be restored from. What the pod itself names goes before that.
func (f Facts) isNamed() bool {
	return f.Policy != nil && f.Policy.Spec.Source == v1alpha1.RestoreNamed && f.Own.RestoreFrom == ""
}

// find returns the Checkpoint of that name; nil when it is not among those that were read.
func (f Facts) find(name string) *v1alpha1.Checkpoint {
	i := slices.IndexFunc(f.Checkpoints, func(c v1alpha1.Checkpoint) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &f.Checkpoints[i]
}

// chooseNamed is the rule for a policy that names a Checkpoint: that one or none, whatever else there is.
func (f Facts) chooseNamed(name string) Choice {
	c := f.find(name)
	if c == nil {
		return cold(keys.ColdCheckpointNotFound, "RestorePolicy %s names Checkpoint %s, which there is not in namespace %s", f.Policy.Name, name, f.Pod.Namespace)
	}
	switch {
	case f.holds(c):
		return claim(c)
	case !c.DeletionTimestamp.IsZero():
		return f.namedCold(keys.ColdCheckpointNotReady, "Checkpoint %s is being deleted", name)
	}
	if s := c.Status.Source; s != nil {
		switch f.kinship(kinOf(c)) {
		case stranger:
			return f.namedCold(keys.ColdOtherLineage, "Checkpoint %s is of %s, and this pod is of %s", name,
				place(s.Owner, s.Identity, c.Spec.SourcePodName), place(f.Own.Owner, f.Own.Identity, f.Pod.Name))
		case otherRevision:
			if !f.restoresOtherRevisions() {
				return f.namedCold(keys.ColdTemplateChanged, "Checkpoint %s is of another revision of the template", name)
			}
		}
		if lacks := f.lacks(c); lacks != "" {
			return f.namedCold(keys.ColdTemplateChanged, "%s", lacks)
		}
	}
	if holder := c.Status.Claim; holder != nil {
		if holder.Phase == v1alpha1.ClaimConsumed {
			return f.namedCold(keys.ColdCheckpointClaimed, "pod %s was restored from Checkpoint %s, which serves one pod, once", holder.PodName, name)
		}
		return f.namedCold(keys.ColdCheckpointClaimed, "pod %s has claimed Checkpoint %s", holder.PodName, name)
	}
	if s := sourceOf(c); isLive(c) && f.goesOn(s.PodUID) {
		return f.namedCold(keys.ColdSourceRuns, "Checkpoint %s is of pod %s, which goes on: both would do the same work", name, c.Spec.SourcePodName)
	}
	if why := lost(c); why != "" {
		return f.namedCold(keys.ColdCheckpointNotReady, "Checkpoint %s cannot be restored: %s", name, why)
	}
	return f.namedWhenThere(c)
}

// namedWhenThere takes the Checkpoint that is named once its state can be had. An age is a bound for what is found, and for what the same policy names.
func (f Facts) namedWhenThere(c *v1alpha1.Checkpoint) Choice {
	captured := c.Status.Source != nil && c.Status.CaptureTime != nil && f.isSettled(c)
	if err := f.mismatch(c); err != nil {
		return f.namedCold(mismatchReason(err), "Checkpoint %s cannot go on here: %v", c.Name, err)
	}
	switch {
	case f.isNamed() && f.isTooOld(c):
		return f.namedCold(keys.ColdCheckpointTooOld, "Checkpoint %s is older than %s, as it was captured %s ago", c.Name, f.maxAge(), f.age(c))
	case captured && f.isThere(c) && f.isNamed():
		return claim(c)
	case captured && f.isThere(c):
		return Choice{Begin: c}
	case captured && f.isLost(c):
		return f.namedCold(keys.ColdWaitTimeout, "Checkpoint %s is on %s alone, and that node is gone", c.Name, c.Status.Source.Node)
	case f.Patient() && captured:
		return wait("waiting for the upload of Checkpoint %s from %s", c.Name, c.Status.Source.Node)
	case f.Patient():
		return wait("waiting for the capture of pod %s, Checkpoint %s", c.Spec.SourcePodName, c.Name)
	case captured:
		return f.namedCold(keys.ColdWaitTimeout, "Checkpoint %s was not in the bucket after %s", c.Name, f.waitFor())
	}
	return f.namedCold(keys.ColdWaitTimeout, "the capture of pod %s, Checkpoint %s, took longer than %s", c.Spec.SourcePodName, c.Name, f.waitFor())
}

// expectedNamed says what Expected does for a policy that names a Checkpoint.
func (f Facts) expectedNamed(name string) (checkpoint *v1alpha1.Checkpoint, node string) {
	c := f.find(name)
	switch {
	case c == nil || !f.isRelative(kinOf(c)):
		return nil, ""
	case c.Status.Claim != nil || !c.DeletionTimestamp.IsZero() || lost(c) != "" || f.isTooOld(c):
		return nil, ""
	case c.Status.CaptureTime == nil:
		return nil, kinOf(c).source.Node
	}
	return c, ""
}

// namedCold is cold, with a message that says who names the Checkpoint.
func (f Facts) namedCold(reason, format string, args ...any) Choice {
	who := keys.RestoreFrom
	if f.isNamed() {
		who = "RestorePolicy " + f.Policy.Name
	}
	return cold(reason, "%s; %s names it", fmt.Sprintf(format, args...), who)
}

// lost says why nothing can be restored from a Checkpoint, now or later; nothing if something may be.
func lost(c *v1alpha1.Checkpoint) string {
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady)
	if ready != nil {
		switch ready.Reason {
		case v1alpha1.StateFailed, v1alpha1.StateDiscarded, v1alpha1.StateExpired:
			return said(ready.Reason, ready.Message)
		}
	}
	captured := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointCaptured)
	if captured == nil || captured.Status == metav1.ConditionTrue || captured.Reason == v1alpha1.StatePending || captured.Reason == v1alpha1.StateDumping {
		return ""
	}
	return said(captured.Reason, captured.Message)
}

func said(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ", " + message
}

// place says whose state it is.
func place(owner *v1alpha1.Owner, identity, podName string) string {
	switch {
	case owner == nil:
		return "pod " + podName
	case identity == "":
		return owner.Kind + " " + owner.Name
	}
	return fmt.Sprintf("%s %s, %s", owner.Kind, owner.Name, identity)
}
