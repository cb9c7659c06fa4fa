package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/matching"
)

// How long Checkpoints stay of which nothing more will come, besides what their policy says.
const (
	// expiredTime is for how long one can be seen that has expired. Whoever chose it just before has claimed it by then.
	expiredTime = time.Minute
	// consumedTime is for how long one stays that was restored: for whoever wants to know what a pod goes on from.
	consumedTime = time.Hour
	// failedTime is for how long one stays that has no state: for whoever looks for the cause.
	failedTime = 24 * time.Hour
)

// cause is why a Checkpoint goes: the label of the metric.
type cause string

// The causes.
const (
	causeTTL       cause = "TTL"
	causeKeepLast  cause = "KeepLast"
	causeConsumed  cause = "Consumed"
	causeCompleted cause = "OwnerCompleted"
	causeReplaced  cause = "RolledOut"
	causeStateless cause = "NoState"
	causeMaxSize   cause = "MaxSize"
	causeQuota     cause = "Quota"
)

// end is what became of a controller, or of a plain pod, whose Checkpoints are of no more use.
type end struct {
	cause cause
	// message is a sentence about it.
	message string
}

// facts are what is known of a namespace.
type facts struct {
	checkpoints []v1alpha1.Checkpoint
	policies    []v1alpha1.CheckpointPolicy
	// restores are the namespace's RestorePolicies.
	restores []v1alpha1.RestorePolicy
	// ends are those of owners, by their UID, and of plain pods, by their lineage.
	ends map[string]end
	// succeeded are the names of pods that have done their work, by their UIDs.
	succeeded map[string]string
	// beginnings are the names of the Checkpoints that pods which have not ended name by restore-from, each with a pod's name.
	beginnings map[string]string
	// readOnly are the names of locations that nothing is deleted in.
	readOnly map[string]bool
	// quota is what the namespace may store, in bytes; 0 is no bound.
	quota int64
	// room are the names of those that make room for others, see makers.
	room map[string]bool
	now  time.Time
}

// step is what is to be done next about a Checkpoint.
type step struct {
	// cause says that it has expired, or with delete that it is to be deleted; empty is neither.
	cause   cause
	message string
	delete  bool
	// after is when time alone changes that; 0 is never.
	after time.Duration
	// keep says whether it stays when its owner is deleted.
	keep bool
}

// judge is the rule for one Checkpoint of the namespace.
func (f facts) judge(c *v1alpha1.Checkpoint) step {
	var labels map[string]string
	if c.Status.Source != nil {
		labels = c.Status.Source.Labels
	}
	retention := v1alpha1.RetentionOf(matching.CheckpointPolicyOf(labels, f.policies))
	s := f.judgeState(c, retention)
	s.keep = retention.OnOwnerDeleted == v1alpha1.DisposalKeep || isPinned(c) || f.beginnings[c.Name] != ""
	return s
}

func (f facts) judgeState(c *v1alpha1.Checkpoint, retention v1alpha1.CheckpointRetention) step {
	claim, ready := c.Status.Claim, meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady)
	switch {
	case !c.DeletionTimestamp.IsZero() || ready == nil || isPinned(c) || c.Status.LocationName != "" && f.readOnly[c.Status.LocationName]:
		return step{}
	case claim != nil && claim.Phase != v1alpha1.ClaimConsumed: // it is being restored
		return step{}
	case ready.Reason == v1alpha1.StateExpired:
		return f.due(ready.LastTransitionTime.Time, expiredTime, step{message: ready.Message, delete: true})
	case ready.Reason == v1alpha1.StateFailed || ready.Reason == v1alpha1.StateDiscarded:
		return f.stateless(c, retention)
	case f.beginnings[c.Name] != "": // who comes in that pod's place may have to begin again
		return step{}
	}
	ttl := f.due(age(c), retention.TTL.Duration, step{cause: causeTTL, message: fmt.Sprintf("it is older than %s, its ttl", retention.TTL.Duration)})
	if ttl.cause != "" || ready.Reason != v1alpha1.StateCompleted { // one that is in flight has no other end
		return ttl
	}
	if e, ended := f.endOf(c, retention); ended {
		return step{cause: e.cause, message: e.message}
	}
	if c.Spec.Trigger.IsLive() && c.Status.Source != nil {
		if s, over := f.judgeLive(c, int(*retention.KeepLast)); over {
			return s
		}
	} else if f.isSuperseded(c, int(*retention.KeepLast)) {
		return step{cause: causeKeepLast, message: fmt.Sprintf("there are %d newer ones, which is what keepLast says", *retention.KeepLast)}
	}
	if f.isTooMuch(c, retention) {
		return step{cause: causeMaxSize, message: fmt.Sprintf("those of its pod take more than %s, which is what maxSize says", retention.MaxSize)}
	}
	if message := f.makesRoom(c); message != "" {
		return step{cause: causeQuota, message: message}
	}
	if claim != nil && !f.goesBack(c) {
		consumed := age(c)
		if claim.ConsumedTime != nil {
			consumed = claim.ConsumedTime.Time
		}
		used := f.due(consumed, consumedTime, step{cause: causeConsumed, message: fmt.Sprintf("pod %s was restored from it %s ago", claim.PodName, consumedTime)})
		return sooner(used, ttl)
	}
	return ttl
}

// goesBack tells whether a pod may go on from a Checkpoint that was restored once already, as the one before what that pod left. Its RestorePolicy says so.
func (f facts) goesBack(c *v1alpha1.Checkpoint) bool {
	source := c.Status.Source
	if source == nil {
		return false
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Spec.SourcePodName, Labels: source.Labels}}
	if o := source.Owner; o != nil {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID, Controller: new(true)}}
	}
	p := matching.PolicyOf(pod, f.restores)
	return p != nil && p.Spec.Fallback == v1alpha1.FallbackPrevious
}

// stateless is the rule for a Checkpoint that has no state, and will have none.
func (f facts) stateless(c *v1alpha1.Checkpoint, retention v1alpha1.CheckpointRetention) step {
	if e, ended := f.endOf(c, retention); ended {
		return step{cause: causeStateless, message: e.message, delete: true}
	}
	if isStoredAndDiscarded(c) { // what it has cannot be replaced by the state of the pod's next capture, whose name it has
		return step{cause: causeStateless, message: "its state was stored before the pod went on", delete: true}
	}
	if c.Spec.Trigger.IsLive() && c.Spec.Trigger != v1alpha1.TriggerManual && f.isFollowed(c) {
		return step{cause: causeStateless, message: "it has no state, and the pod was captured again", delete: true}
	}
	stays := min(failedTime, retention.TTL.Duration)
	message := fmt.Sprintf("it has no state, and has been there for %s", stays)
	return f.due(c.CreationTimestamp.Time, stays, step{cause: causeStateless, message: message, delete: true})
}

// isStoredAndDiscarded tells whether a state was stored before its pod went on. Ready may be behind: then it is another that is stored by now.
func isStoredAndDiscarded(c *v1alpha1.Checkpoint) bool {
	captured := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointCaptured)
	return captured != nil && captured.Reason == v1alpha1.StateDiscarded && (c.Status.ManifestDigest != "" || c.Status.Volume != nil)
}

// due returns the step when its time has come, and else when it comes.
func (f facts) due(since time.Time, stays time.Duration, then step) step {
	if left := since.Add(stays).Sub(f.now); left > 0 {
		return step{after: left}
	}
	return then
}

// sooner is that of two steps which is due, or due first.
func sooner(x, y step) step {
	if x.cause != "" || x.after <= y.after {
		return x
	}
	return y
}

// age is what the age of a Checkpoint is counted from.
func age(c *v1alpha1.Checkpoint) time.Time {
	if c.Status.CaptureTime != nil {
		return c.Status.CaptureTime.Time
	}
	return c.CreationTimestamp.Time
}

// endOf returns what became of the Checkpoint's owner, if it needs it no more.
func (f facts) endOf(c *v1alpha1.Checkpoint, retention v1alpha1.CheckpointRetention) (e end, ended bool) {
	source := c.Status.Source
	if source == nil {
		return e, false
	}
	key := source.Lineage
	if source.Owner != nil {
		key = string(source.Owner.UID)
	}
	e, ended = f.ends[key]
	return e, ended && (e.cause != causeCompleted || retention.OnOwnerCompleted == v1alpha1.DisposalDelete)
}

// isSuperseded tells whether there are as many newer complete Checkpoints of the lineage and identity as are kept. Where any pod can go on from any
// of them, one that no pod has taken is another pod's work, and is not superseded by that of its neighbours.
func (f facts) isSuperseded(c *v1alpha1.Checkpoint, keepLast int) bool {
	source := c.Status.Source
	if source == nil || isShared(c) {
		return false
	}
	newer := 0
	for _, other := range f.peers(c) {
		if other.Spec.Trigger.IsLive() && source.Identity == "" { // of another pod's work
			continue
		}
		if byAge(other, c) < 0 {
			newer++
		}
	}
	return newer >= keepLast
}

// byAge has the newest first.
func byAge(x, y *v1alpha1.Checkpoint) int {
	return cmp.Or(age(y).Compare(age(x)), cmp.Compare(y.Name, x.Name))
}

// reference returns the ownerReferences that a Checkpoint should have, and whether that differs from those that it has. One that was made anew has none,
// as its owner may be that of another cluster: the garbage collector would take it for gone.
func reference(c *v1alpha1.Checkpoint, keep bool) (wanted []metav1.OwnerReference, differs bool) {
	source := c.Status.Source
	if source == nil || source.Owner == nil || c.IsRecreated() {
		return nil, false
	}
	isOwner := func(r metav1.OwnerReference) bool { return r.UID == source.Owner.UID }
	has := slices.ContainsFunc(c.OwnerReferences, isOwner)
	switch {
	case has && keep:
		return slices.DeleteFunc(slices.Clone(c.OwnerReferences), isOwner), true
	case !has && !keep:
		o := source.Owner
		return append(slices.Clone(c.OwnerReferences), metav1.OwnerReference{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID}), true
	}
	return nil, false
}
