package pod

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// count counts in the RestorePolicy what became of a pod, once: the pod is marked first, so that a crash in between loses one and never
// counts one twice.
func (r *Reconciler) count(ctx context.Context, pod *corev1.Pod) error {
	restored := condition(pod, keys.Restored)
	if restored == nil || restored.Status == corev1.ConditionUnknown || pod.Annotations[keys.RestoreCounted] != "" {
		return nil
	}
	policies := &v1alpha1.RestorePolicyList{}
	if err := r.List(ctx, policies, client.InNamespace(pod.Namespace)); err != nil {
		return err
	}
	policy := policyOf(pod, policies.Items)
	if policy == nil {
		return nil
	}
	marked := pod.DeepCopy()
	if marked.Annotations == nil {
		marked.Annotations = map[string]string{}
	}
	marked.Annotations[keys.RestoreCounted] = keys.True
	// With the version that we saw: of two that count at once, one fails here.
	if err := r.Patch(ctx, marked, client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{})); err != nil {
		return client.IgnoreNotFound(err)
	}
	return client.IgnoreNotFound(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		current := &v1alpha1.RestorePolicy{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(policy), current); err != nil {
			return err
		}
		switch {
		case restored.Status == corev1.ConditionTrue || restored.Reason == keys.ColdRestarted:
			current.Status.Restored++
		case failed(restored.Reason):
			current.Status.Failed++
		default:
			current.Status.ColdStarted++
		}
		return r.Status().Update(ctx, current, client.FieldOwner(keys.ManagerFields))
	}))
}

// failed tells whether a pod started cold for this reason although there was something to restore it from.
func failed(reason string) bool {
	switch reason {
	case keys.ColdNoCheckpoint, keys.ColdTemplateChanged, keys.ColdCheckpointTooOld, keys.ColdRestoreDisabled:
		return false
	}
	return true
}

// policyOf is the policy that applies to a pod: the oldest with a selector, then the first by name, before the one of its owner.
func policyOf(pod *corev1.Pod, all []v1alpha1.RestorePolicy) *v1alpha1.RestorePolicy {
	owner := metav1.GetControllerOf(pod)
	var spawned *v1alpha1.RestorePolicy
	var selecting []*v1alpha1.RestorePolicy
	for i := range all {
		policy := &all[i]
		if o := policy.Spec.Owner; o != nil {
			if owner != nil && o.UID == owner.UID {
				spawned = policy
			}
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(policy.Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			selecting = append(selecting, policy)
		}
	}
	if len(selecting) == 0 {
		return spawned
	}
	return slices.MinFunc(selecting, func(a, b *v1alpha1.RestorePolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}
