package matching

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// defaultMaxAge is that of a RestorePolicy.
const defaultMaxAge = 24 * time.Hour

// Choice is what is to be done about a new pod: claim a Checkpoint, wait, or start it cold. Exactly one of the three is set.
type Choice struct {
	Claim *v1alpha1.Checkpoint
	// Wait is a sentence that says what for.
	Wait string
	// Cold is a reason, one of the keys.Cold… constants, and Message says more of it.
	Cold, Message string
}

func claim(checkpoint *v1alpha1.Checkpoint) Choice { return Choice{Claim: checkpoint} }

func wait(format string, args ...any) Choice { return Choice{Wait: fmt.Sprintf(format, args...)} }

func cold(reason, format string, args ...any) Choice {
	return Choice{Cold: reason, Message: fmt.Sprintf(format, args...)}
}

// Choose is the rule (design M1 to M4): the newest unclaimed Checkpoint of the lineage and identity, once nothing newer is on its way. Of several new
// pods for which it would do, each takes another, see turn.
func Choose(f Facts) Choice {
	maxAge := defaultMaxAge
	switch p := f.Policy; {
	case f.Pod.Labels[keys.RestoreMode] == keys.False:
		return cold(keys.ColdRestoreDisabled, "the label %s says so", keys.RestoreMode)
	case p != nil && p.Spec.Mode == v1alpha1.RestoreDisabled:
		return cold(keys.ColdRestoreDisabled, "RestorePolicy %s says so", p.Name)
	case p != nil && p.Spec.MaxAge != nil:
		maxAge = p.Spec.MaxAge.Duration
	}
	candidates, tooOld := f.candidates(maxAge)
	for i, c := range candidates { // the agent claimed it before it was killed
		if c.Status.Claim != nil && c.Status.Claim.PodUID == f.Pod.UID {
			return claim(&candidates[i])
		}
	}
	newest, turn := time.Time{}, f.turn()
	if turn < len(candidates) {
		newest = candidates[0].Status.CaptureTime.Time
	}
	if going, _ := f.inFlight(newest); going != "" && f.Patient() {
		return wait("%s", going)
	}
	if n := len(candidates); n > 0 {
		candidates = slices.Concat(candidates[turn%n:], candidates[:turn%n])
	}
	for i, c := range candidates {
		if err := f.mismatch(&candidates[i]); err != nil {
			return cold(keys.ColdIncompatible, "Checkpoint %s cannot go on here: %v", c.Name, err)
		}
		if meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointUploaded) || f.Here(string(c.Status.Source.PodUID)) {
			return claim(&candidates[i])
		}
		if f.Patient() {
			return wait("waiting for the upload of Checkpoint %s from %s", c.Name, c.Status.Source.Node)
		}
	}
	switch {
	case len(candidates) > 0:
		return cold(keys.ColdWaitTimeout, "Checkpoint %s was not in the bucket after %s", candidates[0].Name, Patience)
	case tooOld != "":
		return cold(keys.ColdCheckpointTooOld, "%s", tooOld)
	}
	if expired := f.expired(); expired != "" {
		return cold(keys.ColdCheckpointTooOld, "Checkpoint %s has expired", expired)
	}
	if other := f.otherRevision(); other != "" {
		return cold(keys.ColdTemplateChanged, "Checkpoint %s is of another revision of the template", other)
	}
	if f.Replaces != "" {
		return cold(keys.ColdTemplateChanged, "%s", f.Replaces)
	}
	return cold(keys.ColdNoCheckpoint, "there is no Checkpoint to restore it from")
}

// Expected says what a pod that has no node yet is probably going to be restored from: a Checkpoint that is there, or, when a newer one is on its way,
// what is captured on the node of that name. Both are empty when there is nothing.
func Expected(f Facts) (checkpoint *v1alpha1.Checkpoint, node string) {
	if f.Pod.Labels[keys.RestoreMode] == keys.False || f.Policy != nil && f.Policy.Spec.Mode == v1alpha1.RestoreDisabled {
		return nil, ""
	}
	if _, node = f.inFlight(time.Time{}); node != "" {
		return nil, node
	}
	maxAge := defaultMaxAge
	if f.Policy != nil && f.Policy.Spec.MaxAge != nil {
		maxAge = f.Policy.Spec.MaxAge.Duration
	}
	if found, _ := f.candidates(maxAge); len(found) > 0 {
		return &found[0], ""
	}
	return nil, ""
}

// candidates returns the Checkpoints that the pod could be restored from, the newest first, and says of one that it is too old.
func (f Facts) candidates(maxAge time.Duration) (found []v1alpha1.Checkpoint, tooOld string) {
	for _, c := range f.Checkpoints {
		s := c.Status.Source
		if !f.isRelative(s) || !c.DeletionTimestamp.IsZero() || c.Status.CaptureTime == nil {
			continue
		}
		if !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointCaptured) && !f.Here(string(s.PodUID)) {
			continue
		}
		if claim := c.Status.Claim; claim != nil && (claim.PodUID != f.Pod.UID || claim.Phase == v1alpha1.ClaimConsumed) {
			continue
		}
		switch said, expired := hasExpired(&c); {
		case expired && c.Status.Claim == nil: // a pod that had claimed it before keeps it
			tooOld = fmt.Sprintf("Checkpoint %s has expired: %s", c.Name, said)
			continue
		case f.Now.Sub(c.Status.CaptureTime.Time) > maxAge:
			tooOld = fmt.Sprintf("Checkpoint %s is older than %s", c.Name, maxAge)
			continue
		}
		found = append(found, c)
	}
	slices.SortFunc(found, func(x, y v1alpha1.Checkpoint) int {
		return cmp.Or(y.Status.CaptureTime.Compare(x.Status.CaptureTime.Time), cmp.Compare(x.Name, y.Name))
	})
	return found, tooOld
}

// expired returns the name of a Checkpoint that nobody has taken, and that the pod could have been restored from before it expired.
func (f Facts) expired() string {
	for i := range f.Checkpoints {
		if c := &f.Checkpoints[i]; f.isRelative(c.Status.Source) && isExpired(c) && c.Status.Claim == nil {
			return c.Name
		}
	}
	return ""
}

func isExpired(c *v1alpha1.Checkpoint) bool {
	_, expired := hasExpired(c)
	return expired
}

// hasExpired tells whether the manager has said so, as of what a ReplicaSet left that a rollout replaced, and in which words.
func hasExpired(c *v1alpha1.Checkpoint) (said string, expired bool) {
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady)
	if ready == nil || ready.Reason != v1alpha1.StateExpired {
		return "", false
	}
	return ready.Message, true
}

// otherRevision returns the name of a Checkpoint that the pods of the same workload left under another template, at the same place. For a Deployment
// that is another ReplicaSet, which the label says: it is enough for a reason to start cold.
func (f Facts) otherRevision() string {
	for i := range f.Checkpoints {
		c := &f.Checkpoints[i]
		s := c.Status.Source
		if s == nil || s.Lineage == f.Own.Lineage || s.Identity != f.Own.Identity || (s.Owner == nil) != (f.Own.Owner == nil) {
			continue
		}
		switch {
		case s.Owner == nil && c.Spec.SourcePodName == f.Pod.Name, s.Owner != nil && s.Owner.UID == f.Own.Owner.UID:
			return c.Name
		case f.Workload != "" && lineage.KindOf(s.Owner) == lineage.ReplicaSet && c.Labels[keys.Workload] == f.Workload:
			return c.Name
		}
	}
	return ""
}
