package agent

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/matching"
)

// policyOf returns the CheckpointPolicy of a pod with these labels; nil when it has none.
func (a *Agent) policyOf(ctx context.Context, namespace string, labels map[string]string) (*v1alpha1.CheckpointPolicy, error) {
	policies := &v1alpha1.CheckpointPolicyList{}
	if err := a.Client.List(ctx, policies, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	return matching.CheckpointPolicyOf(labels, policies.Items), nil
}

// pause tells the runtime whether the pod is captured for the time being. It needs no agent to obey.
func (a *Agent) pause(ctx context.Context, pod *corev1.Pod) error {
	_, why, err := a.heldBack(ctx, pod.Namespace)
	if err != nil {
		return err
	}
	if why != "" {
		return a.Node.Hint(string(pod.UID), capture.PausedHint, why)
	}
	policy, err := a.policyOf(ctx, pod.Namespace, pod.Labels)
	if err != nil {
		return err
	}
	if policy != nil && policy.Spec.Paused {
		return a.Node.Hint(string(pod.UID), capture.PausedHint, fmt.Sprintf("CheckpointPolicy %s is paused", policy.Name))
	}
	return a.Node.DropHint(string(pod.UID), capture.PausedHint)
}

// paused is the condition of a pod that is not captured for the time being, if it is one.
func (a *Agent) paused(pod *corev1.Pod) (c corev1.PodCondition, is bool) {
	why, is := a.Node.ReadHint(string(pod.UID), capture.PausedHint)
	c = corev1.PodCondition{
		Type: keys.Checkpointable, Status: corev1.ConditionFalse, Reason: keys.UnprotectedPaused, Message: why + ": it is not captured as long as that is so",
	}
	if isNotAllowed(pod, why) {
		c.Reason = keys.UnprotectedNamespace
	}
	return c, is
}

// podsOf returns the pods of this node that a CheckpointPolicy may concern.
func (a *Agent) podsOf(ctx context.Context, policy client.Object) []reconcile.Request {
	return a.podsHere(ctx, client.InNamespace(policy.GetNamespace()))
}
