package retention

import (
	"context"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// watch adds what the rule depends on: the Checkpoints, their policies and locations, and what may end their owners.
func (r *Reconciler) watch(b *builder.Builder) *builder.Builder {
	ofNamespace := handler.EnqueueRequestsFromMapFunc(namespaceOf)
	return b.
		Watches(&v1alpha1.Checkpoint{}, ofNamespace, builder.WithPredicates(predicate.Funcs{UpdateFunc: matters})).
		Watches(&v1alpha1.CheckpointPolicy{}, ofNamespace, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.RestorePolicy{}, ofNamespace, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.CheckpointStorageLocation{}, handler.EnqueueRequestsFromMapFunc(r.ofLocation),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.ofAll), builder.WithPredicates(r.Config.Predicate())).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetName()}}}
		}), builder.WithPredicates(predicate.Funcs{ // its quota
			CreateFunc: func(event.CreateEvent) bool { return false }, // its Checkpoints come themselves
			DeleteFunc: func(event.DeleteEvent) bool { return false },
			UpdateFunc: func(e event.UpdateEvent) bool {
				return !maps.Equal(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations())
			},
		})).
		Watches(&batchv1.Job{}, ofNamespace).
		Watches(&appsv1.Deployment{}, ofNamespace).
		Watches(&appsv1.ReplicaSet{}, ofNamespace).
		Watches(&corev1.Pod{}, namespaceOfPod(), builder.WithPredicates(ofPods()))
}

// namespaceOf returns the namespace of an object. One without Checkpoints is dealt with at once.
func namespaceOf(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace()}}}
}

// matters tells whether an update of a Checkpoint can change what the rule says. How far an upload is cannot.
func matters(e event.UpdateEvent) bool {
	before, isOne := e.ObjectOld.(*v1alpha1.Checkpoint)
	after, isToo := e.ObjectNew.(*v1alpha1.Checkpoint)
	if !isOne || !isToo {
		return true
	}
	return !equality.Semantic.DeepEqual(state(before), state(after)) || !equality.Semantic.DeepEqual(before.Status.Claim, after.Status.Claim) ||
		!equality.Semantic.DeepEqual(before.Status.CaptureTime, after.Status.CaptureTime) || (before.Status.Source == nil) != (after.Status.Source == nil) ||
		!equality.Semantic.DeepEqual(before.OwnerReferences, after.OwnerReferences) ||
		isPinned(before) != isPinned(after) || waitsForRoom(before) != waitsForRoom(after) || before.Status.LocationName != after.Status.LocationName
}

// state is the state of a Checkpoint, and since when it has it.
func state(c *v1alpha1.Checkpoint) (s metav1.Condition) {
	if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady); ready != nil {
		s.Reason, s.LastTransitionTime = ready.Reason, ready.LastTransitionTime
	}
	return s
}

// ofLocation returns the namespaces whose Checkpoints are stored in a location.
func (r *Reconciler) ofLocation(ctx context.Context, location client.Object) []reconcile.Request {
	return r.namespaces(ctx, func(c *v1alpha1.Checkpoint) bool { return c.Status.LocationName == location.GetName() })
}

// ofAll returns the namespaces that have Checkpoints.
func (r *Reconciler) ofAll(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.namespaces(ctx, func(*v1alpha1.Checkpoint) bool { return true })
}

func (r *Reconciler) namespaces(ctx context.Context, concerns func(*v1alpha1.Checkpoint) bool) (requests []reconcile.Request) {
	all := &v1alpha1.CheckpointList{}
	if err := r.Client.List(ctx, all); err != nil { // of a cache that has not begun or has ended
		ctrl.LoggerFrom(ctx).Error(err, "list the Checkpoints")
		return nil
	}
	seen := map[string]bool{}
	for i := range all.Items {
		if c := &all.Items[i]; concerns(c) && !seen[c.Namespace] {
			seen[c.Namespace] = true
			requests = append(requests, namespaceOf(ctx, c)...)
		}
	}
	return requests
}
