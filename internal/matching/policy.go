package matching

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// PolicyOf returns the RestorePolicy of a pod among those of its namespace: one with a selector, which a person wrote, goes before the one that
// was spawned for its owner; of several the oldest counts, then the first by name. It is nil when none applies.
func PolicyOf(pod *corev1.Pod, policies []v1alpha1.RestorePolicy) *v1alpha1.RestorePolicy {
	var best *v1alpha1.RestorePolicy
	for i := range policies {
		p := &policies[i]
		if p.DeletionTimestamp.IsZero() && applies(p, pod) && (best == nil || compare(p, best) < 0) {
			best = p
		}
	}
	return best
}

func applies(p *v1alpha1.RestorePolicy, pod *corev1.Pod) bool {
	if p.Spec.Selector == nil {
		owner := metav1.GetControllerOf(pod)
		return p.Spec.Owner != nil && owner != nil && p.Spec.Owner.UID == owner.UID
	}
	selector, err := metav1.LabelSelectorAsSelector(p.Spec.Selector)
	return err == nil && selector.Matches(labels.Set(pod.Labels))
}

func compare(x, y *v1alpha1.RestorePolicy) int {
	if (x.Spec.Selector != nil) != (y.Spec.Selector != nil) {
		if x.Spec.Selector != nil {
			return -1
		}
		return 1
	}
	return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Name, y.Name))
}
