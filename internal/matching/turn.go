package matching

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// turn is the pod's place, from 0, in the queue of those that any Checkpoint of the lineage would do for: the first takes the newest, the second the one
// after it. So agents that decide at the same time, from the same lists, claim different ones. If all went for the newest, N of them would take
// about N²/2 attempts. Who holds a claim has left the queue as its Checkpoint has left the candidates, so that the others' places still fit.
// Where the lists differ two may meet all the same; the claim decides between them, and the loser looks again.
func (f Facts) turn() int {
	if f.hasPlace() { // nobody else can take it
		return 0
	}
	claimed := map[types.UID]bool{f.Pod.UID: true}
	for i := range f.Checkpoints {
		if claim := f.Checkpoints[i].Status.Claim; claim != nil {
			claimed[claim.PodUID] = true
		}
	}
	before := 0
	for i := range f.Siblings {
		p := &f.Siblings[i]
		if claimed[p.UID] || !isWaiting(p) || !goesBefore(p, f.Pod) {
			continue
		}
		if own := lineage.Of(p); own.Lineage == f.Own.Lineage && own.Identity == f.Own.Identity && own.RestoreFrom == f.Own.RestoreFrom {
			before++
		}
	}
	return before
}

// isWaiting tells whether a pod has a node, and nobody has decided about it, as far as the API server knows.
func isWaiting(p *corev1.Pod) bool {
	return podspec.IsProtected(p) && !podspec.StartsCold(p) && p.Spec.NodeName != "" && p.DeletionTimestamp.IsZero() &&
		(p.Status.Phase == corev1.PodPending || p.Status.Phase == "") && podspec.Condition(p, keys.Restored) == nil
}

func goesBefore(p, other *corev1.Pod) bool {
	return cmp.Or(p.CreationTimestamp.Compare(other.CreationTimestamp.Time), cmp.Compare(p.UID, other.UID)) < 0
}
