package retention

import (
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// beginningsOf are the names of the Checkpoints that those of the pods name by restore-from which have not ended, each with a pod's name.
func beginningsOf(pods []corev1.Pod) map[string]string {
	found := map[string]string{}
	for i := range pods {
		if name := podspec.RestoreFrom(&pods[i]); name != "" && !podspec.HasEnded(&pods[i]) {
			found[name] = pods[i].Name
		}
	}
	return found
}

// ofPods lets pass what of a pod can change what the rule says: that it has done its work, or that it keeps the Checkpoint no more that it names.
func ofPods() predicate.Predicate {
	ends := func(o client.Object) bool {
		pod, isPod := o.(*corev1.Pod)
		return isPod && (pod.Status.Phase == corev1.PodSucceeded || podspec.RestoreFrom(pod) != "" && podspec.HasEnded(pod))
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return ends(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool { return ends(e.ObjectNew) },
		DeleteFunc: func(e event.DeleteEvent) bool {
			pod, isPod := e.Object.(*corev1.Pod)
			return ends(e.Object) || isPod && podspec.RestoreFrom(pod) != ""
		},
		GenericFunc: func(e event.GenericEvent) bool { return ends(e.Object) },
	}
}
