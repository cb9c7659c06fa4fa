package retention

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// judgeLive is the rule for a complete Checkpoint of a pod that went on, besides what holds for all. The last ones of a pod are kept, and none once the
// pod's work is done or another pod has taken it up. Those of other pods do not matter: their work is another.
func (f facts) judgeLive(c *v1alpha1.Checkpoint, keepLast int) (s step, over bool) {
	if c.Status.Claim != nil { // as any that was restored
		return s, false
	}
	source := c.Status.Source
	if pod, done := f.succeeded[string(source.PodUID)]; done {
		return step{cause: causeCompleted, message: fmt.Sprintf("pod %s has succeeded", pod)}, true
	}
	newer := 0
	for i := range f.checkpoints {
		x := &f.checkpoints[i]
		s := x.Status.Source
		if x.Name == c.Name || s == nil {
			continue
		}
		samePod := s.PodUID == source.PodUID
		samePlace := (source.Owner == nil || source.Identity != "") && s.Lineage == source.Lineage && s.Identity == source.Identity
		if claim := x.Status.Claim; samePod && claim != nil && claim.Phase == v1alpha1.ClaimConsumed && !f.goesBack(c) {
			return step{cause: causeConsumed, message: fmt.Sprintf("pod %s goes on from another Checkpoint of the same pod, %s", claim.PodName, x.Name)}, true
		}
		if (samePod || samePlace) && x.DeletionTimestamp.IsZero() && meta.IsStatusConditionTrue(x.Status.Conditions, v1alpha1.CheckpointReady) && byAge(x, c) < 0 {
			newer++
		}
	}
	if newer >= keepLast {
		return step{cause: causeKeepLast, message: fmt.Sprintf("there are %d newer ones of the same pod, which is what keepLast says", newer)}, true
	}
	return s, false
}

// isFollowed tells whether there is a newer Checkpoint of the same pod which went on, of whatever outcome: so of many that fail the last is there to be
// looked at.
func (f facts) isFollowed(c *v1alpha1.Checkpoint) bool {
	for i := range f.checkpoints {
		x := &f.checkpoints[i]
		byItself := x.Spec.Trigger.IsLive() && x.Spec.Trigger != v1alpha1.TriggerManual
		if byItself && podOf(x) == podOf(c) && podOf(c) != "" && x.CreationTimestamp.After(c.CreationTimestamp.Time) {
			return true
		}
	}
	return false
}

// podOf is the UID of the captured pod, as far as it is known.
func podOf(c *v1alpha1.Checkpoint) string {
	if c.Status.Source != nil {
		return string(c.Status.Source.PodUID)
	}
	return string(c.Spec.SourcePodUID)
}

// succeededAmong are the names of those pods that have done their work, by their UIDs.
func succeededAmong(pods []corev1.Pod) map[string]string {
	found := map[string]string{}
	for i := range pods {
		if p := &pods[i]; p.Status.Phase == corev1.PodSucceeded && !endedByDeletion(p) {
			found[string(p.UID)] = p.Name
		}
	}
	return found
}
