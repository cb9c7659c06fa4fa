package pod

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// gone keeps the pods that went without being terminated first, until their Checkpoints are made: one that is deleted by force is gone from the API at
// once, while its node still captures it, and its replacement has to know that there is something to wait for (design M2).
type gone struct {
	mu   sync.Mutex
	pods map[types.NamespacedName]map[types.UID]*corev1.Pod
}

// handler remembers them. What it gets is the pod as it was last seen; one that was terminated in peace has ended by then.
func (g *gone) handler() handler.EventHandler {
	return handler.Funcs{DeleteFunc: func(_ context.Context, e event.DeleteEvent, queue workqueue.TypedRateLimitingInterface[ctrl.Request]) {
		pod, isPod := e.Object.(*corev1.Pod)
		if !isPod || !podspec.Asks(pod) || !mayBeCaptured(pod) {
			return
		}
		key := client.ObjectKeyFromObject(pod)
		g.mu.Lock()
		if g.pods == nil {
			g.pods = map[types.NamespacedName]map[types.UID]*corev1.Pod{}
		}
		if g.pods[key] == nil {
			g.pods[key] = map[types.UID]*corev1.Pod{}
		}
		g.pods[key][pod.UID] = pod
		g.mu.Unlock()
		queue.Add(ctrl.Request{NamespacedName: key})
	}}
}

// of returns those of that name.
func (g *gone) of(key types.NamespacedName) (pods []*corev1.Pod) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, pod := range g.pods[key] {
		pods = append(pods, pod)
	}
	return pods
}

func (g *gone) forget(pod *corev1.Pod) {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := client.ObjectKeyFromObject(pod)
	if delete(g.pods[key], pod.UID); len(g.pods[key]) == 0 {
		delete(g.pods, key)
	}
}

// terminatedByForce makes the Checkpoints of pods of that name that are gone. Nobody but their node knows whether there is a state: the Checkpoint
// fails when it says nothing for some minutes.
func (r *Reconciler) terminatedByForce(ctx context.Context, key types.NamespacedName) error {
	for _, pod := range r.gone.of(key) {
		if err := r.keep(ctx, pod, "the pod was deleted by force"); err != nil {
			return err
		}
		r.gone.forget(pod)
	}
	return nil
}
