package agent

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// How often it is looked again whether a pod that does not start may. Kubelet calls the gate as seldom.
const (
	refusedInterval   = 5 * time.Second
	unfetchedInterval = 30 * time.Second // each try may bring gigabytes
)

// refuse keeps a pod from starting that cannot be restored, as its policy says. There is no decision then: the gate repeats the reason, kubelet
// shows it and calls again, and so the pod starts as soon as the reason has gone or the policy says something else.
func (a *Agent) refuse(ctx context.Context, pod *corev1.Pod, policy *v1alpha1.RestorePolicy, c matching.Choice, again time.Duration) (ctrl.Result, error) {
	message := capture.Refusal(policy.Name) + ": " + c.Refuse + ", " + c.Message
	if err := a.Node.Hint(string(pod.UID), capture.WaitingHint, message); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: again}, a.tellRefusal(ctx, pod, message)
}

// tellRefusal says of a pod that it does not start, beside other conditions.
func (a *Agent) tellRefusal(ctx context.Context, pod *corev1.Pod, message string, conditions ...corev1.PodCondition) error {
	old := podspec.Condition(pod, keys.Restored)
	err := a.tell(ctx, pod, append(conditions, corev1.PodCondition{
		Type: keys.Restored, Status: corev1.ConditionFalse, Reason: keys.RestoreRefused, Message: message,
	})...)
	if err == nil && (old == nil || old.Reason != keys.RestoreRefused) {
		countRefused()
	}
	return err
}

// reconsider looks whether a pod of which the runtime could not restore a container may start without: its policy or its label says so by now, or
// the Checkpoint was deleted. It stays with the Checkpoint that it has; which one is another matter for the next pod only.
func (a *Agent) reconsider(ctx context.Context, pod *corev1.Pod, d *capture.Decision) (ctrl.Result, error) {
	_, held, err := a.heldBack(ctx, pod.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	f, err := a.gather(ctx, pod)
	if err != nil {
		return ctrl.Result{}, err
	}
	asked := held == "" && !podspec.StartsCold(pod) && f.Fails() && f.Policy.Spec.Mode != v1alpha1.RestoreDisabled
	if asked {
		err = a.Client.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: d.Checkpoint}, &v1alpha1.Checkpoint{})
		if err == nil || !apierrors.IsNotFound(err) {
			return ctrl.Result{RequeueAfter: refusedInterval}, err
		}
	}
	err = a.Node.Relent(string(pod.UID))
	if errors.Is(err, capture.ErrRestoring) { // it may come to something
		err = nil
	}
	return ctrl.Result{RequeueAfter: undecidedInterval}, err
}

// hintFailing leaves word for the gate, should no agent be there later, that the pod must not start cold.
func (a *Agent) hintFailing(f matching.Facts, c matching.Choice) error {
	if c.Cold != "" || !f.Fails() {
		return a.Node.DropHint(string(f.Pod.UID), capture.FailingHint)
	}
	return a.Node.Hint(string(f.Pod.UID), capture.FailingHint, f.Policy.Name)
}

func fallbackOf(f matching.Facts) capture.Fallback {
	if f.Fails() {
		return capture.Refuse
	}
	return capture.StartCold
}

func nameOf(policy *v1alpha1.RestorePolicy) string {
	if policy == nil {
		return ""
	}
	return policy.Name
}
