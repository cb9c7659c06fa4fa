package v1alpha1

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The retention of Checkpoints that no CheckpointPolicy speaks of; also the defaults of one that speaks of nothing else.
const (
	DefaultKeepLast = 3
	DefaultTTL      = 7 * 24 * time.Hour
)

// RetentionOf returns the retention of a policy, or without one the defaults. All of its fields are set.
func RetentionOf(policy *CheckpointPolicy) CheckpointRetention {
	r := CheckpointRetention{}
	if policy != nil {
		r = policy.Spec.Retention
	}
	if r.KeepLast == nil {
		r.KeepLast = new(int32(DefaultKeepLast))
	}
	if r.TTL == nil {
		r.TTL = &metav1.Duration{Duration: DefaultTTL}
	}
	r.OnOwnerCompleted, r.OnOwnerDeleted = cmp.Or(r.OnOwnerCompleted, DisposalDelete), cmp.Or(r.OnOwnerDeleted, DisposalDelete)
	return r
}
