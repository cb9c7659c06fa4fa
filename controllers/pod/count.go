package pod

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// whileOthersCount is how often and when a count is tried again that met that of another pod: for a quarter of a minute, as many pods may come at once.
var whileOthersCount = wait.Backoff{Steps: 30, Duration: 10 * time.Millisecond, Factor: 1.2, Jitter: 0.5}

// count counts in the RestorePolicy what became of a pod, once: the pod is marked first, so that a crash in between loses one and never
// counts one twice.
func (r *Reconciler) count(ctx context.Context, pod *corev1.Pod) error {
	restored := podspec.Condition(pod, keys.Restored)
	if restored == nil || !isFinal(restored) || pod.Annotations[keys.RestoreCounted] != "" {
		return nil
	}
	policies := &v1alpha1.RestorePolicyList{}
	if err := r.List(ctx, policies, client.InNamespace(pod.Namespace)); err != nil {
		return err
	}
	policy := matching.PolicyOf(pod, policies.Items)
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
	return client.IgnoreNotFound(retry.RetryOnConflict(whileOthersCount, func() error {
		current := &v1alpha1.RestorePolicy{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(policy), current); err != nil {
			return err
		}
		patch := client.MergeFromWithOptions(current.DeepCopy(), client.MergeFromWithOptimisticLock{})
		switch {
		case restored.Status == corev1.ConditionTrue || restored.Reason == keys.ColdRestarted:
			current.Status.Restored++
		case failed(restored.Reason):
			current.Status.Failed++
		default:
			current.Status.ColdStarted++
		}
		return r.Status().Patch(ctx, current, patch, client.FieldOwner(keys.ManagerFields))
	}))
}

// isFinal tells whether nothing else will become of the pod. One that does not start may still be restored, and one of which containers are to come.
func isFinal(restored *corev1.PodCondition) bool {
	return restored.Status != corev1.ConditionUnknown && restored.Reason != keys.RestoreRefused && restored.Reason != keys.ColdIncomplete
}

// failed tells whether a pod started cold for this reason although there was something to restore it from.
func failed(reason string) bool {
	switch reason {
	case keys.ColdNoCheckpoint, keys.ColdTemplateChanged, keys.ColdCheckpointTooOld, keys.ColdRestoreDisabled, keys.ColdPaused, keys.ColdNamespaceNotAllowed:
		return false
	}
	return true
}
