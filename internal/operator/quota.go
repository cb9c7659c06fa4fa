package operator

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// Stored is what Checkpoints take in buckets, in bytes: those that are there, also while they are deleted, and those whose upload has begun. It is counted
// before compression, and what a lineage shares is counted for each: so it is known before the upload, and never too little.
func Stored(checkpoints []v1alpha1.Checkpoint) (sum int64) {
	for i := range checkpoints {
		if c := &checkpoints[i]; c.Status.LocationName != "" && c.Status.SizeBytes != nil {
			sum += *c.Status.SizeBytes
		}
	}
	return sum
}

// OverQuota says why a state of that size may not be stored beside the other Checkpoints of its namespace; nothing if it may. quota 0 is no bound. One whose
// upload has begun goes on.
func OverQuota(c *v1alpha1.Checkpoint, size, quota int64, all []v1alpha1.Checkpoint) string {
	if quota == 0 || c.Status.LocationName != "" {
		return ""
	}
	stored := Stored(without(all, c.UID))
	if stored+size <= quota {
		return ""
	}
	return fmt.Sprintf("the quota of namespace %s is %s: its Checkpoints take %s, and this one %s", c.Namespace,
		v1alpha1.ReadableSize(quota), v1alpha1.ReadableSize(stored), v1alpha1.ReadableSize(size))
}

func without(all []v1alpha1.Checkpoint, uid types.UID) []v1alpha1.Checkpoint {
	var others []v1alpha1.Checkpoint
	for i := range all {
		if all[i].UID != uid {
			others = append(others, all[i])
		}
	}
	return others
}
