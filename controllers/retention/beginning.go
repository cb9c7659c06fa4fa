package retention

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// beginningsOf are the names of the Checkpoints that the pods name by restore-from, each with a pod's name. A pod that has failed counts as long as it
// is there: its Job makes another one after a while.
func beginningsOf(pods []corev1.Pod) map[string]string {
	found := map[string]string{}
	for i := range pods {
		if name := podspec.RestoreFrom(&pods[i]); name != "" && pods[i].Status.Phase != corev1.PodSucceeded {
			found[name] = pods[i].Name
		}
	}
	return found
}

// replacedTime is how long after a pod is gone what it named is looked at: by then there is the pod in its place.
const replacedTime = time.Minute

// namespaceOfPod has the namespace of a pod looked at: at once, or when the pod is gone a little later.
func namespaceOfPod() handler.EventHandler {
	at := func(o client.Object) reconcile.Request {
		return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace()}}
	}
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return handler.Funcs{
		CreateFunc:  func(_ context.Context, e event.CreateEvent, q queue) { q.Add(at(e.Object)) },
		UpdateFunc:  func(_ context.Context, e event.UpdateEvent, q queue) { q.Add(at(e.ObjectNew)) },
		DeleteFunc:  func(_ context.Context, e event.DeleteEvent, q queue) { q.AddAfter(at(e.Object), replacedTime) },
		GenericFunc: func(_ context.Context, e event.GenericEvent, q queue) { q.Add(at(e.Object)) },
	}
}

// ofPods lets pass what of a pod can change what the rule says: that it has done its work, or that it keeps the Checkpoint that it names, or no more.
func ofPods() predicate.Predicate {
	ends := func(o client.Object) bool {
		pod, isPod := o.(*corev1.Pod)
		return isPod && pod.Status.Phase == corev1.PodSucceeded
	}
	names := func(o client.Object) string {
		if pod, isPod := o.(*corev1.Pod); isPod {
			return podspec.RestoreFrom(pod)
		}
		return ""
	}
	return predicate.Funcs{
		CreateFunc:  func(e event.CreateEvent) bool { return ends(e.Object) || names(e.Object) != "" },
		UpdateFunc:  func(e event.UpdateEvent) bool { return ends(e.ObjectNew) || names(e.ObjectOld) != names(e.ObjectNew) },
		DeleteFunc:  func(e event.DeleteEvent) bool { return ends(e.Object) || names(e.Object) != "" },
		GenericFunc: func(e event.GenericEvent) bool { return ends(e.Object) },
	}
}
