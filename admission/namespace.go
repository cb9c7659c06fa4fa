package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// Namespaces reads what the Namespaces of pods say for them.
type Namespaces struct {
	// Cached reads from a cache, since somebody waits for the answer. Live reads past it.
	Cached, Live client.Reader
	// Operator is the operator's own Namespace, which says nothing.
	Operator string
}

// resolve returns what the keys of a pod come to, with those of its Namespace, and what whoever makes the pod should know of them.
func (n Namespaces) resolve(ctx context.Context, pod *corev1.Pod, name string) (asked settings.Settings, warnings []string, err error) {
	namespace, warnings := n.of(ctx, name, hasMode(pod))
	asked, err = settings.Resolve(pod, namespace)
	if !asked.Checkpoint {
		return asked, nil, err // nothing of it matters
	}
	ctrl.LoggerFrom(ctx).V(1).Info("resolved", "namespace", name, "name", pod.Name, "from", asked.From)
	return asked, append(warnings, asked.Warnings...), err
}

// of returns what a Namespace says. A cache may not have heard yet of one that was made, or changed, just now. That shows when the API server asks about a
// pod that has no key itself, as it does for the sake of its Namespace alone: then the Namespace itself is read. When it cannot be read, the pod is made
// all the same, and whoever made it is told.
func (n Namespaces) of(ctx context.Context, name string, hasOwn bool) (namespace settings.Namespace, warnings []string) {
	soon, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	found := &corev1.Namespace{}
	err := n.Cached.Get(soon, client.ObjectKey{Name: name}, found)
	if err != nil || !hasOwn && !settings.Of(found, n.Operator).Asks() {
		found = &corev1.Namespace{}
		err = n.Live.Get(soon, client.ObjectKey{Name: name}, found)
	}
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "read the Namespace", "namespace", name)
		return settings.Namespace{}, []string{fmt.Sprintf("Namespace %s could not be read: what it says of checkpoints does not count here", name)}
	}
	return settings.Of(found, n.Operator), nil
}

// hasMode tells whether a pod says itself whether it is to be captured.
func hasMode(pod *corev1.Pod) bool {
	_, labelled := pod.Labels[keys.CheckpointMode]
	_, annotated := pod.Annotations[keys.CheckpointMode]
	return labelled || annotated
}
