package checkpoint

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// watch adds what a verdict depends on besides the Checkpoint: its source pod, the storage locations and whether its node is ready.
func (r *Reconciler) watch(b *builder.Builder) *builder.Builder {
	return b.
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.ofPod)).
		Watches(&v1alpha1.CheckpointStorageLocation{}, handler.EnqueueRequestsFromMapFunc(r.ofLocation),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.CheckpointPolicy{}, handler.EnqueueRequestsFromMapFunc(r.ofPolicy), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.ofNode), builder.WithPredicates(predicate.Funcs{
			UpdateFunc: func(e event.UpdateEvent) bool {
				before, isNode := e.ObjectOld.(*corev1.Node)
				after, isToo := e.ObjectNew.(*corev1.Node)
				return isNode && isToo && isReady(before) != isReady(after)
			},
		}))
}

// ofPod returns the Checkpoint of a pod that is terminated, if there is one, and those that wait for a pod of that name which goes on.
func (r *Reconciler) ofPod(ctx context.Context, pod client.Object) []reconcile.Request {
	name := v1alpha1.TerminationName(pod.GetName(), pod.GetUID())
	requests := r.unfinished(ctx, client.InNamespace(pod.GetNamespace()), client.MatchingFields{ByLivePod: pod.GetName()})
	return append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: pod.GetNamespace(), Name: name}})
}

// bySourceNode is the name of the cache's index of Checkpoints by the node of their source.
const bySourceNode = "status.source.node"

// ByLivePod is the name of the cache's index of Checkpoints of pods that go on, by the names of the pods.
const ByLivePod = "spec.sourcePodName"

func addIndexes(manager ctrl.Manager) error {
	index := manager.GetFieldIndexer()
	return errors.Join(
		index.IndexField(context.Background(), &v1alpha1.Checkpoint{}, bySourceNode, sourceNode),
		index.IndexField(context.Background(), &v1alpha1.Checkpoint{}, ByLivePod, livePod),
	)
}

func livePod(object client.Object) []string {
	if c, isOne := object.(*v1alpha1.Checkpoint); isOne && c.Spec.Trigger.IsLive() {
		return []string{c.Spec.SourcePodName}
	}
	return nil
}

func sourceNode(object client.Object) []string {
	if c, isOne := object.(*v1alpha1.Checkpoint); isOne && c.Status.Source != nil {
		return []string{c.Status.Source.Node}
	}
	return nil
}

// ofLocation returns the Checkpoints that may wait for a location, to be stored in it or to be deleted.
func (r *Reconciler) ofLocation(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.unfinished(ctx)
}

// ofPolicy returns the Checkpoints of its namespace that may wait for a location.
func (r *Reconciler) ofPolicy(ctx context.Context, policy client.Object) []reconcile.Request {
	return r.unfinished(ctx, client.InNamespace(policy.GetNamespace()))
}

// ofNode returns the Checkpoints whose state may be on a node alone.
func (r *Reconciler) ofNode(ctx context.Context, node client.Object) []reconcile.Request {
	return r.unfinished(ctx, client.MatchingFields{bySourceNode: node.GetName()})
}

func (r *Reconciler) unfinished(ctx context.Context, which ...client.ListOption) (requests []reconcile.Request) {
	all := &v1alpha1.CheckpointList{}
	if err := r.Client.List(ctx, all, which...); err != nil { // of a cache that has not begun or has ended
		ctrl.LoggerFrom(ctx).Error(err, "list the Checkpoints")
		return nil
	}
	for i := range all.Items {
		c := &all.Items[i]
		if completed := meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointReady) && c.DeletionTimestamp.IsZero(); !completed {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(c)})
		}
	}
	return requests
}
