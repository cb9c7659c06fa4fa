package pod

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// nodeCheck is how often we look for a node that became ready, as long as a pod has none.
const nodeCheck = 15 * time.Second

// protect keeps the condition Checkpointable of a pod that will not be captured, with the reason. That a pod is protected is the agent's to say.
func (r *Reconciler) protect(ctx context.Context, pod *corev1.Pod) (again time.Duration, err error) {
	if !pod.DeletionTimestamp.IsZero() || podspec.HasEnded(pod) {
		return 0, nil
	}
	reason, message, err := r.unprotected(ctx, pod)
	if err != nil {
		return 0, err
	}
	if podspec.IsProtected(pod) && pod.Spec.NodeName == "" {
		again = nodeCheck
	}
	return again, r.say(ctx, pod, reason, message)
}

// say writes the condition Checkpointable of a pod that will not be captured, and takes it away when there is no reason any more.
func (r *Reconciler) say(ctx context.Context, pod *corev1.Pod, reason, message string) error {
	old := podspec.Condition(pod, keys.Checkpointable)
	status := coreapply.PodStatus()
	switch {
	case reason == "" && (old == nil || !ours(old.Reason) || isAgents(pod, old.Reason)):
		return nil
	case reason == "": // no longer: without the condition, ours goes
	case old != nil && old.Reason == reason && old.Message == message:
		return nil
	default:
		since := r.now()
		if old != nil && old.Status == corev1.ConditionFalse {
			since = old.LastTransitionTime
		}
		status.WithConditions(coreapply.PodCondition().WithType(corev1.PodConditionType(keys.Checkpointable)).WithStatus(corev1.ConditionFalse).
			WithReason(reason).WithMessage(message).WithLastTransitionTime(since))
	}
	err := r.Status().Apply(ctx, coreapply.Pod(pod.Name, pod.Namespace).WithUID(pod.UID).WithStatus(status),
		client.FieldOwner(keys.ManagerFields), client.ForceOwnership)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if reason != "" {
		unprotectedPods.WithLabelValues(reason).Inc()
		r.Events.Eventf(pod, nil, corev1.EventTypeWarning, reason, "Protect", "the pod will not be captured: %s", message)
	}
	return nil
}

// ours tells whether it is the manager that gives this reason.
func ours(reason string) bool {
	return reason == keys.UnprotectedNotAdmitted || reason == keys.UnprotectedNamespace || reason == keys.UnprotectedNoReadyNode ||
		slices.Contains(podspec.Reasons, reason)
}

// unprotected says why the pod will not be captured, as far as the manager can know; nothing if it may be.
func (r *Reconciler) unprotected(ctx context.Context, pod *corev1.Pod) (reason, message string, err error) {
	selection, err := r.selection(ctx, pod)
	if err != nil {
		return "", "", err
	}
	if message := r.notAllowed(ctx, pod); message != "" {
		return keys.UnprotectedNamespace, message, nil
	}
	reason, message = podspec.Obstacle(pod, selection)
	switch {
	case reason != "":
		return reason, message, nil
	case !podspec.IsProtected(pod):
		return keys.UnprotectedNotAdmitted, "it was made while the operator's webhook did not answer, before its Namespace asked for it, or under " +
			"a CheckpointPolicy that has changed since; a new pod will be protected", nil
	case pod.Spec.NodeName != "":
		return "", "", nil
	}
	nodes := &metav1.PartialObjectMetadataList{}
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	selector := client.MatchingLabels{keys.NodeReady: keys.True}
	for name, value := range pod.Spec.NodeSelector {
		selector[name] = value
	}
	if err := r.List(ctx, nodes, selector); err != nil {
		return "", "", err
	}
	if len(nodes.Items) == 0 {
		message = fmt.Sprintf("no node that it may run on has the label %s, which the agent gives those that can capture", keys.NodeReady)
		return keys.UnprotectedNoReadyNode, message, nil
	}
	return "", "", nil
}

// selection says which containers of the pod are captured: by what admission wrote, or for a pod that it left alone, by its keys and its CheckpointPolicy.
func (r *Reconciler) selection(ctx context.Context, pod *corev1.Pod) (*v1alpha1.ContainerSelection, error) {
	if podspec.IsProtected(pod) {
		if settings, err := capture.ParseSettings(pod.Annotations[keys.Effective]); err == nil && len(settings.Containers) > 0 {
			return &v1alpha1.ContainerSelection{Include: settings.Containers}, nil
		}
	}
	policy, err := r.policyOf(ctx, pod)
	if err != nil {
		return nil, err
	}
	namespace := &corev1.Namespace{}
	if err := r.Get(ctx, client.ObjectKey{Name: pod.Namespace}, namespace); client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	asked, err := settings.Resolve(pod, settings.Of(namespace, r.Operator))
	if err != nil { // it was made before such values were refused
		asked.Containers = nil
	}
	return asked.Selection(policy), nil
}

// policyOf returns the CheckpointPolicy of a pod; nil when it has none.
func (r *Reconciler) policyOf(ctx context.Context, pod *corev1.Pod) (*v1alpha1.CheckpointPolicy, error) {
	policies := &v1alpha1.CheckpointPolicyList{}
	if err := r.List(ctx, policies, client.InNamespace(pod.Namespace)); err != nil {
		return nil, err
	}
	return matching.CheckpointPolicyOf(pod.Labels, policies.Items), nil
}
