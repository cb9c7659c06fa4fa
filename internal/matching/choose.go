package matching

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Choice is what is to be done about a new pod: claim a Checkpoint, begin from one, wait, start it cold, or not start it. Exactly one of the five is set.
type Choice struct {
	Claim *v1alpha1.Checkpoint
	// Begin is the Checkpoint that the pod's restore-from names: it is restored without a claim, and serves others as well.
	Begin *v1alpha1.Checkpoint
	// From is the Checkpoint before it, which is to be restored in place of the one that is claimed, and Message says why; nil means the claimed one itself.
	From *v1alpha1.Checkpoint
	// Wait is a sentence that says what for.
	Wait string
	// Cold is a reason, one of the keys.Cold… constants, and Message says more of it.
	Cold string
	// Refuse is such a reason, too, for which the policy's fallback Fail keeps the pod from starting as long as it holds.
	Refuse  string
	Message string
	// byRule says of a cold start that nothing has failed.
	byRule bool
}

func claim(checkpoint *v1alpha1.Checkpoint) Choice { return Choice{Claim: checkpoint} }

func wait(format string, args ...any) Choice { return Choice{Wait: fmt.Sprintf(format, args...)} }

func cold(reason, format string, args ...any) Choice {
	return Choice{Cold: reason, Message: fmt.Sprintf(format, args...)}
}

// byRule says of a cold start that nothing has failed.
func byRule(c Choice) Choice {
	c.byRule = true
	return c
}

// Choose is the rule (design M1 to M4), by the policy that applies to the pod: the Checkpoint that it names, or the newest unclaimed one of the lineage
// and identity, once nothing newer is on its way. Of several new pods for which it would do, each takes another, see turn. Where there is none, the
// Checkpoint that the pod's restore-from names.
func Choose(f Facts) Choice {
	givenUp := f.leaveGivenUp()
	c := f.choose()
	if c.Cold == keys.ColdNoCheckpoint && givenUp != "" {
		c.Message += fmt.Sprintf("; what Checkpoint %s has was given up by a probe, and is restored only by its name", givenUp)
	}
	if c.Cold == "" {
		return c
	}
	if c.byRule {
		return c
	}
	return f.WithoutRestore(c.Cold, c.Message)
}

// WithoutRestore is what is to be done about a pod that is not restored, for that reason: what the policy's fallback says.
func (f Facts) WithoutRestore(reason, message string) Choice {
	if f.Fails() && f.refuses(reason) {
		return Choice{Refuse: reason, Message: message}
	}
	return Choice{Cold: reason, Message: message}
}

// refuses tells whether a policy that says Fail keeps a pod from starting for that reason: there was something to restore it from. The first pod
// of an owner starts, and so does one that is not to be restored.
func (f Facts) refuses(reason string) bool {
	switch reason {
	case keys.ColdNoCheckpoint, keys.ColdRestoreDisabled:
		return false
	case keys.ColdTemplateChanged:
		return f.isNamed()
	}
	return true
}

// leaveGivenUp leaves out what a probe gave up, as it would be given up again, unless policy or pod name it, and returns the name of the last of them.
func (f *Facts) leaveGivenUp() (last string) {
	var left []v1alpha1.Checkpoint
	for _, c := range f.Checkpoints {
		if c.Spec.Trigger == v1alpha1.TriggerProbe && c.Name != f.Named() && c.Name != f.Own.RestoreFrom {
			last = c.Name
			continue
		}
		left = append(left, c)
	}
	f.Checkpoints = left
	return last
}

func (f Facts) choose() Choice {
	switch p := f.Policy; {
	case podspec.StartsCold(f.Pod):
		return cold(keys.ColdRestoreDisabled, "its %s says so", keys.RestoreMode)
	case p != nil && p.Spec.Mode == v1alpha1.RestoreDisabled:
		return cold(keys.ColdRestoreDisabled, "RestorePolicy %s says so", p.Name)
	case f.isNamed():
		return f.chooseNamed(p.Spec.CheckpointName)
	}
	return f.chooseLatest()
}

func (f Facts) chooseLatest() Choice {
	for i := range f.Checkpoints { // the agent claimed it before it was killed, or could not bring it yet
		if c := &f.Checkpoints[i]; f.holds(c) {
			if f.GoesBack() && f.hasFailed(c) { // it goes on from the one before
				return f.orBefore(c, nothingOf(c))
			}
			return claim(c)
		}
	}
	candidates, old := f.candidates()
	candidates, lost := f.withoutLost(candidates)
	newest, turn := time.Time{}, f.turn()
	if turn < len(candidates) {
		newest = candidates[0].Status.CaptureTime.Time
	}
	going, _ := f.inFlight(newest)
	late := Choice{}
	switch {
	case going != "" && f.Patient():
		return wait("waiting for %s", going)
	case going != "":
		late = cold(keys.ColdWaitTimeout, "%s took longer than %s", going, f.waitFor())
	case len(candidates) > 0:
		late = cold(keys.ColdWaitTimeout, "Checkpoint %s was not in the bucket after %s", candidates[0].Name, f.waitFor())
	}
	if n := len(candidates); n > 0 {
		candidates = slices.Concat(candidates[turn%n:], candidates[:turn%n])
	}
	for i := range candidates {
		c := &candidates[i]
		if f.hasPlace() && (going != "" || i > 0 || lost != nil && !isOfSame(c, lost)) { // what its place left last is another: this would take it back
			break
		}
		if err := f.mismatch(c); err != nil {
			return f.orBefore(c, cold(mismatchReason(err), "Checkpoint %s cannot go on here: %v", c.Name, err))
		}
		if volumes := f.AdvancedVolumes(); isLive(c) && len(volumes) > 0 {
			return cold(keys.ColdVolumeAdvanced, "Checkpoint %s is from before what the %s by now", c.Name, holds(volumes))
		}
		if f.isThere(c) {
			return claim(c)
		}
		if f.Patient() {
			return wait("waiting for the upload of Checkpoint %s from %s", c.Name, c.Status.Source.Node)
		}
	}
	switch {
	case lost != nil && going == "" && (len(candidates) == 0 || f.hasPlace()):
		otherwise := cold(keys.ColdWaitTimeout, "Checkpoint %s is on %s alone, and that node is gone", lost.Name, sourceOf(lost).Node)
		if f.Own.RestoreFrom != "" {
			otherwise = f.chooseBeginning()
		}
		return f.orBefore(lost, otherwise)
	case late.Cold != "" && going == "":
		return f.orBefore(&candidates[0], late)
	case late.Cold != "":
		return late
	case f.Own.RestoreFrom != "": // what has expired of its line is none
		return f.orBeforeFailed(f.chooseBeginning())
	case old.Cold != "":
		return old
	}
	if expired := f.expired(); expired != "" {
		return byRule(cold(keys.ColdCheckpointTooOld, "Checkpoint %s has expired", expired))
	}
	if other := f.otherRevision(); other != "" {
		return cold(keys.ColdTemplateChanged, "%s", other)
	}
	if f.Replaces != "" && !f.restoresOtherRevisions() {
		return cold(keys.ColdTemplateChanged, "%s", f.Replaces)
	}
	return f.orBeforeFailed(cold(keys.ColdNoCheckpoint, "there is no Checkpoint to restore it from"))
}

// Expected says what a pod that has no node yet is probably going to be restored from: a Checkpoint that is there, or, when a newer one is on its way,
// what is captured on the node of that name. Both are empty when there is nothing.
func Expected(f Facts) (checkpoint *v1alpha1.Checkpoint, node string) {
	if podspec.StartsCold(f.Pod) || f.Policy != nil && f.Policy.Spec.Mode == v1alpha1.RestoreDisabled {
		return nil, ""
	}
	if f.isNamed() {
		return f.expectedNamed(f.Policy.Spec.CheckpointName)
	}
	f.leaveGivenUp()
	if _, node = f.inFlight(time.Time{}); node != "" {
		return nil, node
	}
	if found, _ := f.candidates(); len(found) > 0 {
		return &found[0], ""
	}
	return f.expectedBeginning()
}

// candidates returns the Checkpoints that the pod could be restored from, the newest first, and what there is to say of one that is too old.
func (f Facts) candidates() (found []v1alpha1.Checkpoint, old Choice) {
	for i := range f.Checkpoints {
		c := &f.Checkpoints[i]
		if !f.isRelative(kinOf(c)) || !c.DeletionTimestamp.IsZero() || c.Status.CaptureTime == nil {
			continue
		}
		if !f.isCaptured(c) || c.Status.Claim != nil || f.lacks(c) != "" || !f.isLast(c) {
			continue
		}
		switch said, expired := hasExpired(c); {
		case expired && old.Cold != "":
			continue
		case expired: // by a rule, as another template is one, and no failure
			old = byRule(cold(keys.ColdCheckpointTooOld, "Checkpoint %s has expired: %s", c.Name, said))
			continue
		case f.isTooOld(c):
			old = cold(keys.ColdCheckpointTooOld, "Checkpoint %s is older than %s", c.Name, f.maxAge())
			continue
		}
		found = append(found, *c)
	}
	slices.SortFunc(found, func(x, y v1alpha1.Checkpoint) int {
		return cmp.Or(y.Status.CaptureTime.Compare(x.Status.CaptureTime.Time), cmp.Compare(x.Name, y.Name))
	})
	return found, old
}

// isOfSame tells whether a Checkpoint is a milestone of the pod that left another one later: going on from it loses what that did since, and no more.
func isOfSame(c, later *v1alpha1.Checkpoint) bool {
	return isLive(c) && sourceOf(c).PodUID == sourceOf(later).PodUID
}

// withoutLost leaves out what is on nodes alone that are gone, and returns the newest of that.
func (f Facts) withoutLost(candidates []v1alpha1.Checkpoint) (left []v1alpha1.Checkpoint, lost *v1alpha1.Checkpoint) {
	for i := range candidates {
		switch c := &candidates[i]; {
		case !f.isLost(c):
			left = append(left, *c)
		case lost == nil:
			lost = c
		}
	}
	return left, lost
}

// holds tells whether the pod has claimed a Checkpoint, of which nothing has run yet.
func (f Facts) holds(c *v1alpha1.Checkpoint) bool {
	claim := c.Status.Claim
	return claim != nil && claim.PodUID == f.Pod.UID && claim.Phase != v1alpha1.ClaimConsumed && c.DeletionTimestamp.IsZero()
}

// isThere tells whether the state can be had now: from the bucket, or from this node.
func (f Facts) isThere(c *v1alpha1.Checkpoint) bool {
	return meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointUploaded) || f.Here(c)
}

func (f Facts) isTooOld(c *v1alpha1.Checkpoint) bool {
	return c.Status.CaptureTime != nil && f.Now.Sub(c.Status.CaptureTime.Time) > f.maxAge()
}

// expired returns the name of a Checkpoint that nobody has taken, and that the pod could have been restored from before it expired.
func (f Facts) expired() string {
	for i := range f.Checkpoints {
		if c := &f.Checkpoints[i]; !isLive(c) && f.isRelative(kinOf(c)) && isExpired(c) && c.Status.Claim == nil {
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

// otherRevision says of a Checkpoint that the same owner's pods left under another template why it does not serve; nothing if there is none.
func (f Facts) otherRevision() string {
	for i := range f.Checkpoints {
		c := &f.Checkpoints[i]
		_, expired := hasExpired(c)
		if f.kinship(kinOf(c)) != otherRevision && !f.hasWorkload(c) || c.Status.Claim != nil || lost(c) != "" && !expired {
			continue
		}
		if !f.restoresOtherRevisions() || f.kinship(kinOf(c)) != otherRevision {
			return fmt.Sprintf("Checkpoint %s is of another revision of the template", c.Name)
		}
		if lacks := f.lacks(c); lacks != "" {
			return lacks
		}
	}
	return ""
}

// age is that of a Checkpoint, for a person.
func (f Facts) age(c *v1alpha1.Checkpoint) time.Duration {
	return f.Now.Sub(c.Status.CaptureTime.Time).Round(time.Second)
}
