package pod

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// notAllowed says of a pod that its namespace is not among those whose pods are captured; nothing of one that our runtime has: its agent looks after it.
func (r *Reconciler) notAllowed(ctx context.Context, pod *corev1.Pod) string {
	if podspec.IsProtected(pod) || r.Config.Allows(ctx, pod.Namespace) {
		return ""
	}
	return operator.NotAllowed(pod.Namespace)
}

// isAgents tells of a reason that manager and agent give whether it is the agent's word on this pod.
func isAgents(pod *corev1.Pod, reason string) bool {
	return reason == keys.UnprotectedNamespace && podspec.IsProtected(pod)
}

// watchNamespaces adds what says which namespaces are allowed.
func (r *Reconciler) watchNamespaces(b *builder.Builder) *builder.Builder {
	if r.Config == nil {
		return b
	}
	return b.
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []ctrl.Request {
			return r.labelledPods(ctx)
		}), builder.WithPredicates(r.Config.Predicate())).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, namespace client.Object) []ctrl.Request {
			return r.labelledPods(ctx, client.InNamespace(namespace.GetName()))
		}), builder.WithPredicates(predicate.Funcs{
			CreateFunc: func(event.CreateEvent) bool { return false }, // its pods come themselves
			UpdateFunc: func(e event.UpdateEvent) bool { return !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) },
		}))
}

func (r *Reconciler) labelledPods(ctx context.Context, which ...client.ListOption) (requests []ctrl.Request) {
	pods := &corev1.PodList{}
	if err := r.List(ctx, pods, append(which, client.HasLabels{keys.CheckpointMode})...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "list the labelled pods")
		return nil
	}
	for i := range pods.Items {
		requests = append(requests, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&pods.Items[i])})
	}
	return requests
}
