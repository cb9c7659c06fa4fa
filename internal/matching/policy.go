package matching

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// PolicyOf returns the RestorePolicy of a pod among those of its namespace: one with a selector, which a person wrote, goes before the one that
// was spawned for its owner; of several the oldest counts, then the first by name. It is nil when none applies.
func PolicyOf(pod *corev1.Pod, policies []v1alpha1.RestorePolicy) *v1alpha1.RestorePolicy {
	if all := Applying(pod, policies); len(all) > 0 {
		return all[0]
	}
	return nil
}

// Applying returns the RestorePolicies that apply to a pod: the first decides, and overrules the others.
func Applying(pod *corev1.Pod, policies []v1alpha1.RestorePolicy) []*v1alpha1.RestorePolicy {
	var all []*v1alpha1.RestorePolicy
	for i := range policies {
		if p := &policies[i]; p.DeletionTimestamp.IsZero() && applies(p, pod) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, compareRestore)
	return all
}

// GoesBefore tells whether x decides for pods to which both apply.
func GoesBefore(x, y *v1alpha1.RestorePolicy) bool { return compareRestore(x, y) < 0 }

func applies(p *v1alpha1.RestorePolicy, pod *corev1.Pod) bool {
	if p.Spec.Selector == nil {
		owner := metav1.GetControllerOf(pod)
		return p.Spec.Owner != nil && owner != nil && p.Spec.Owner.UID == owner.UID
	}
	return selects(p.Spec.Selector, pod.Labels)
}

func compareRestore(x, y *v1alpha1.RestorePolicy) int {
	if (x.Spec.Selector != nil) != (y.Spec.Selector != nil) {
		if x.Spec.Selector != nil {
			return -1
		}
		return 1
	}
	return compare(&x.ObjectMeta, &y.ObjectMeta)
}

// CheckpointPolicyOf returns the CheckpointPolicy of a pod with these labels among those of its namespace: of several that select it the oldest
// counts, then the first by name. It is nil when none does.
func CheckpointPolicyOf(podLabels map[string]string, policies []v1alpha1.CheckpointPolicy) *v1alpha1.CheckpointPolicy {
	return firstOf(policies, func(p *v1alpha1.CheckpointPolicy) *metav1.ObjectMeta { return &p.ObjectMeta }, func(p *v1alpha1.CheckpointPolicy) bool {
		return selects(p.Spec.Selector, podLabels)
	})
}

// firstOf returns that of the policies which goes before all others that apply and are not being deleted.
func firstOf[P any](policies []P, meta func(*P) *metav1.ObjectMeta, applies func(*P) bool) *P {
	var first *P
	for i := range policies {
		p := &policies[i]
		if meta(p).DeletionTimestamp.IsZero() && applies(p) && (first == nil || compare(meta(p), meta(first)) < 0) {
			first = p
		}
	}
	return first
}

func compare(x, y *metav1.ObjectMeta) int {
	return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Name, y.Name))
}

// selects tells whether a selector, which may be empty but not nil, matches; one that cannot be understood matches nothing.
func selects(selector *metav1.LabelSelector, podLabels map[string]string) bool {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && parsed.Matches(labels.Set(podLabels))
}
