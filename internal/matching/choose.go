package matching

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
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

// Choose is the rule (design M1 to M4): the newest unclaimed Checkpoint of the lineage and identity, once nothing newer is on its way.
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
	if going, _ := f.inFlight(); going != "" && f.Patient() {
		return wait("%s", going)
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
		return cold(keys.ColdCheckpointTooOld, "Checkpoint %s is older than %s", tooOld, maxAge)
	}
	if other := f.otherRevision(); other != "" {
		return cold(keys.ColdTemplateChanged, "Checkpoint %s is of another revision of the template", other)
	}
	return cold(keys.ColdNoCheckpoint, "there is no Checkpoint to restore it from")
}

// Expected says what a pod that has no node yet is probably going to be restored from: a Checkpoint that is there, or, when a newer one is on its way,
// what is captured on the node of that name. Both are empty when there is nothing.
func Expected(f Facts) (checkpoint *v1alpha1.Checkpoint, node string) {
	if f.Pod.Labels[keys.RestoreMode] == keys.False || f.Policy != nil && f.Policy.Spec.Mode == v1alpha1.RestoreDisabled {
		return nil, ""
	}
	if _, node = f.inFlight(); node != "" {
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

// candidates returns the Checkpoints that the pod could be restored from, the newest first, and the name of one that is too old.
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
		if f.Now.Sub(c.Status.CaptureTime.Time) > maxAge {
			tooOld = c.Name
			continue
		}
		found = append(found, c)
	}
	slices.SortFunc(found, func(x, y v1alpha1.Checkpoint) int {
		return cmp.Or(y.Status.CaptureTime.Compare(x.Status.CaptureTime.Time), cmp.Compare(x.Name, y.Name))
	})
	return found, tooOld
}

// otherRevision returns the name of a Checkpoint that the same owner's pods left under another template.
func (f Facts) otherRevision() string {
	if f.Own.Owner == nil {
		return ""
	}
	for _, c := range f.Checkpoints {
		if s := c.Status.Source; s != nil && s.Owner != nil && s.Owner.UID == f.Own.Owner.UID && s.Lineage != f.Own.Lineage && s.Identity == f.Own.Identity {
			return c.Name
		}
	}
	return ""
}
