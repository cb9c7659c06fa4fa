package agent

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
)

// gather reads what the choice for a new pod is made by.
func (a *Agent) gather(ctx context.Context, pod *corev1.Pod) (matching.Facts, error) {
	f := matching.Facts{Pod: pod, Own: lineage.Of(pod), Now: a.Now(), Here: func(podUID string) bool { return a.localCapture(podUID) != "" }}
	if pod.Labels[keys.RestoreMode] == keys.False {
		return f, nil
	}
	inNamespace := client.InNamespace(pod.Namespace)
	checkpoints, policies, siblings := &v1alpha1.CheckpointList{}, &v1alpha1.RestorePolicyList{}, &corev1.PodList{}
	if err := a.Client.List(ctx, checkpoints, inNamespace); err != nil {
		return f, err
	}
	if err := a.Client.List(ctx, policies, inNamespace); err != nil {
		return f, err
	}
	if err := a.Everywhere.List(ctx, siblings, inNamespace, client.MatchingLabels{keys.CheckpointMode: keys.True}); err != nil {
		return f, err
	}
	f.Unpublished = a.unpublished()
	if facts, err := a.machine(); err == nil {
		f.Machine = &facts
	}
	if len(checkpoints.Items) > 0 {
		f.Images = a.imagesHere(ctx, pod)
	}
	f.Checkpoints, f.Siblings, f.Policy = checkpoints.Items, siblings.Items, matching.PolicyOf(pod, policies.Items)
	return f, nil
}
