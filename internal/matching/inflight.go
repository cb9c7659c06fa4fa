package matching

import (
	"cmp"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// inFlight says what is on its way, and from which node, when a pod of the lineage and identity goes whose state may still come (design M2), if it began
// to go after that time: of pods that go together, one that is written already is as good as one that is still to be, or the last of many would keep all
// waiting.
func (f Facts) inFlight(after time.Time) (what, node string) {
	settled := map[types.UID]bool{f.Pod.UID: true}
	for i := range f.Checkpoints {
		if c := &f.Checkpoints[i]; !isLive(c) && f.isSettled(c) {
			settled[c.Spec.SourcePodUID] = true
		}
	}
	for i := range f.Siblings {
		p := &f.Siblings[i]
		since, going := goingSince(p)
		if !going || settled[p.UID] || !podspec.IsProtected(p) || podspec.IsPaused(p) || p.Spec.NodeName == "" || !since.After(after) ||
			f.isGone(p.Spec.NodeName) {
			continue
		}
		own := lineage.Of(p)
		source := v1alpha1.CheckpointSource{PodUID: p.UID, Owner: own.Owner, Lineage: own.Lineage, Identity: own.Identity, RestoreFrom: own.RestoreFrom}
		if f.isRelative(kin{podName: p.Name, source: source}) {
			return fmt.Sprintf("the capture of pod %s on %s", p.Name, p.Spec.NodeName), p.Spec.NodeName
		}
	}
	for i := range f.Unpublished {
		if u := &f.Unpublished[i]; f.isRelative(kin{podName: u.PodName, source: u.Source}) && !settled[u.Source.PodUID] && u.Begun.After(after) {
			return fmt.Sprintf("the publication of the capture of pod %s", u.PodName), u.Source.Node
		}
	}
	for i := range f.Checkpoints {
		c := &f.Checkpoints[i]
		k := kinOf(c)
		if isLive(c) || !f.isRelative(k) || settled[k.source.PodUID] || !c.DeletionTimestamp.IsZero() || !c.CreationTimestamp.After(after) ||
			f.isGone(k.source.Node) {
			continue
		}
		if f.Now.Sub(c.CreationTimestamp.Time) < max(patience, f.waitFor()) {
			return fmt.Sprintf("the capture of pod %s on %s", c.Spec.SourcePodName, cmp.Or(k.source.Node, "its node")), k.source.Node
		}
	}
	return "", ""
}

// goingSince tells since when a pod goes in a way that it is captured: it was deleted, or had to make room. One that ended by itself leaves nothing.
func goingSince(p *corev1.Pod) (since time.Time, going bool) {
	disrupted := podspec.Condition(p, corev1.DisruptionTarget)
	switch {
	case podspec.EndedByItself(p):
		return time.Time{}, false
	case !p.DeletionTimestamp.IsZero():
		return podspec.DeletionBegan(p), true
	case disrupted != nil && disrupted.Status == corev1.ConditionTrue:
		return disrupted.LastTransitionTime.Time, true
	case podspec.IsDisrupted(p): // it does not say since when
		return podspec.BoundSince(p), true
	}
	return time.Time{}, false
}

// sourceOf is the source of a Checkpoint. Until whoever makes it has written that, a moment later, its labels say the same.
func sourceOf(c *v1alpha1.Checkpoint) v1alpha1.CheckpointSource {
	if c.Status.Source != nil {
		return *c.Status.Source
	}
	return v1alpha1.CheckpointSource{
		PodUID: c.Spec.SourcePodUID, Lineage: c.Labels[keys.Lineage], Identity: c.Labels[keys.Identity], RestoreFrom: c.Labels[keys.BeganFrom],
	}
}

// isSettled tells whether it is known what came of a capture: a state, or that there will be none.
func (f Facts) isSettled(c *v1alpha1.Checkpoint) bool {
	if isExpired(c) || c.Status.CaptureTime != nil && f.Here(c) { // whatever the disk still has to do
		return true
	}
	captured := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointCaptured)
	if captured != nil && (captured.Status == metav1.ConditionTrue || captured.Reason != v1alpha1.StatePending && captured.Reason != v1alpha1.StateDumping) {
		return true
	}
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady)
	return ready != nil && (ready.Reason == v1alpha1.StateFailed || ready.Reason == v1alpha1.StateDiscarded) // the manager knows that nothing will come
}
