package agent

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

// configTime bounds how long a cache that is not filled yet is waited for.
const configTime = 500 * time.Millisecond

// config is what is said for the whole operator. What cannot be read or understood changes nothing of what held before; the manager is loud about it. An
// agent that has just been started and cannot read it yet knows nothing, and gets an error.
func (a *Agent) config(ctx context.Context) (operator.Config, error) {
	soon, cancel := context.WithTimeout(ctx, configTime)
	defer cancel()
	configMap := &corev1.ConfigMap{}
	err := a.Client.Get(soon, client.ObjectKey{Namespace: a.Namespace, Name: operator.ConfigMap}, configMap)
	if client.IgnoreNotFound(err) != nil {
		if last, known := a.said.Last(); known {
			return last, nil
		}
		return operator.Config{}, fmt.Errorf("read what ConfigMap %s says for the whole operator: %w", operator.ConfigMap, err)
	}
	c, err := a.said.Take(configMap.Data)
	if err != nil {
		ctrl.LoggerFrom(ctx).V(1).Info("what cannot be understood changes nothing", "reason", err.Error())
	}
	return c, nil
}

// heldBack says why no pod of a namespace is captured or restored, with the reason of its condition Restored; both are empty if that is not so.
func (a *Agent) heldBack(ctx context.Context, namespace string) (reason, why string, err error) {
	c, err := a.config(ctx)
	if err != nil || c.Paused != "" {
		return keys.ColdPaused, c.Paused, err
	}
	allowed, err := a.allows(ctx, c, namespace)
	if err != nil || allowed {
		return "", "", err
	}
	return keys.ColdNamespaceNotAllowed, operator.NotAllowed(namespace), nil
}

func (a *Agent) allows(ctx context.Context, c operator.Config, namespace string) (bool, error) {
	if !c.NeedsLabels() || c.Allows(namespace, nil) {
		return c.Allows(namespace, nil), nil
	}
	found := &corev1.Namespace{}
	if err := a.Client.Get(ctx, client.ObjectKey{Name: namespace}, found); client.IgnoreNotFound(err) != nil {
		return false, err
	}
	return c.Allows(namespace, found.Labels), nil
}

// mayUpload returns an error with the reason when a state may not be stored for now. It stays on the node.
func (a *Agent) mayUpload(ctx context.Context, checkpoint *v1alpha1.Checkpoint, size int64) error {
	namespace := checkpoint.Namespace
	c, err := a.config(ctx)
	if err != nil {
		return err
	}
	switch allowed, err := a.allows(ctx, c, namespace); {
	case err != nil:
		return err
	case !allowed:
		return noLocation{v1alpha1.ReasonNamespaceNotAllowed, operator.NotAllowed(namespace) + ": the state stays on the node"}
	}
	quota, err := a.quotaOf(ctx, namespace)
	if err != nil || quota == 0 {
		return err
	}
	all := &v1alpha1.CheckpointList{}
	if err := a.Client.List(ctx, all, client.InNamespace(namespace)); err != nil {
		return err
	}
	if over := operator.OverQuota(checkpoint, size, quota, all.Items); over != "" {
		return noLocation{v1alpha1.ReasonQuotaExceeded, over + "; the state stays on the node until there is room: delete others, or raise the quota"}
	}
	return nil
}

// quotaOf is what the Checkpoints of a namespace may take in buckets, in bytes; 0 is no bound.
func (a *Agent) quotaOf(ctx context.Context, namespace string) (int64, error) {
	found := &corev1.Namespace{}
	if err := a.Client.Get(ctx, client.ObjectKey{Name: namespace}, found); client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("the quota of namespace %s: %w", namespace, err)
	}
	c, err := a.config(ctx)
	if err != nil {
		return 0, err
	}
	quota, err := c.QuotaOf(namespace, found.Annotations)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "the quota of all namespaces counts instead")
	}
	return quota, nil
}

// leaveWord tells the gate that the operator is paused, for when no agent runs.
func (a *Agent) leaveWord(ctx context.Context) {
	c, err := a.config(ctx)
	switch {
	case err != nil: // what was left stays
	case c.Paused != "":
		err = a.Node.Pause(c.Paused)
	default:
		err = a.Node.Resume()
	}
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "leave word whether the operator is paused")
	}
}

// isNotAllowed tells of the hint of a pod that is not captured whether it is for its namespace.
func isNotAllowed(pod *corev1.Pod, why string) bool { return why == operator.NotAllowed(pod.Namespace) }

// watchOperator has the pods of this node looked at when something is said for the whole operator, or for their namespace.
func (a *Agent) watchOperator(b *builder.Builder) *builder.Builder {
	return b.
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
			a.leaveWord(ctx)
			return a.podsHere(ctx)
		}), builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return o.GetName() == operator.ConfigMap && o.GetNamespace() == a.Namespace
		}))).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, namespace client.Object) []reconcile.Request {
			return a.podsHere(ctx, client.InNamespace(namespace.GetName()))
		}), builder.WithPredicates(predicate.Funcs{
			CreateFunc: func(event.CreateEvent) bool { return false }, // its pods come themselves
			UpdateFunc: func(e event.UpdateEvent) bool { return !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) },
		}))
}

// podsHere returns the pods of this node.
func (a *Agent) podsHere(ctx context.Context, which ...client.ListOption) (requests []reconcile.Request) {
	pods := &corev1.PodList{}
	if err := a.Client.List(ctx, pods, which...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list the pods of this node")
		return nil
	}
	for i := range pods.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pods.Items[i])})
	}
	return requests
}

// decideCold decides about a new pod that is not restored as nothing is.
func (a *Agent) decideCold(pod *corev1.Pod, reason, why string) (ctrl.Result, error) {
	return a.decided(pod, capture.Decision{Action: capture.Cold, Reason: reason, Message: why})
}
