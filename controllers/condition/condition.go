// Package condition turns conditions of our kinds into what server-side apply takes. It imports nothing of the other controllers.
package condition

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1apply "k8s.io/client-go/applyconfigurations/meta/v1"
)

// maxMessage bounds the message of a condition, in bytes; the API server takes 32 KiB.
const maxMessage = 8 << 10

// Apply returns the condition as it is to be applied, given those that are there: the time of the last transition stays as long as the status does.
func Apply(there []metav1.Condition, wanted metav1.Condition, now time.Time) *metav1apply.ConditionApplyConfiguration {
	since := metav1.NewTime(now)
	if old := meta.FindStatusCondition(there, wanted.Type); old != nil && old.Status == wanted.Status {
		since = old.LastTransitionTime
	}
	c := metav1apply.Condition().WithType(wanted.Type).WithStatus(wanted.Status).WithReason(wanted.Reason).
		WithMessage(wanted.Message[:min(len(wanted.Message), maxMessage)]).WithLastTransitionTime(since)
	if wanted.ObservedGeneration != 0 {
		c.WithObservedGeneration(wanted.ObservedGeneration)
	}
	return c
}

// Changed tells whether a condition is missing or says something else; the time of its last transition does not count.
func Changed(there []metav1.Condition, wanted metav1.Condition) bool {
	old := meta.FindStatusCondition(there, wanted.Type)
	return old == nil || old.Status != wanted.Status || old.Reason != wanted.Reason || old.Message != wanted.Message ||
		old.ObservedGeneration != wanted.ObservedGeneration
}
