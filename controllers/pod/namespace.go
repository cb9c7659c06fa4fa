package pod

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// missedCheck is how often we look for pods that admission missed, in a Namespace that asks for its pods.
const missedCheck = 30 * time.Second

// namespaces looks after Namespaces that ask for their pods: it says by a label what the annotation of one says, by which the API server finds out
// whether to ask admission, and tells of pods that admission missed that they are not protected.
type namespaces struct {
	pods *Reconciler
	// asked has the names of those that do, or did.
	asked sync.Map
}

// Reconcile looks at one Namespace.
func (n *namespaces) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	namespace := &corev1.Namespace{}
	if err := n.pods.Get(ctx, request.NamespacedName, namespace); err != nil {
		n.asked.Delete(request.Name)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !namespace.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	said := settings.Of(namespace, n.pods.Operator)
	if err := n.mirror(ctx, namespace, said); err != nil {
		return ctrl.Result{}, err
	}
	if said.Asks() {
		n.asked.Store(request.Name, true)
		return ctrl.Result{RequeueAfter: missedCheck}, n.missed(ctx, request.Name, n.pods.tellMissed)
	}
	if _, did := n.asked.Load(request.Name); !did {
		return ctrl.Result{}, nil
	}
	err := n.missed(ctx, request.Name, n.pods.takeBack)
	if err == nil {
		n.asked.Delete(request.Name)
	}
	return ctrl.Result{}, err
}

// mirror gives a Namespace the label that says what its annotation does, or takes it away.
func (n *namespaces) mirror(ctx context.Context, namespace *corev1.Namespace, said settings.Namespace) error {
	want := ""
	if said.Annotations[keys.CheckpointMode] == keys.True {
		want = keys.True
	}
	if namespace.Labels[keys.NamespaceAsks] == want {
		return nil
	}
	changed := namespace.DeepCopy()
	delete(changed.Labels, keys.NamespaceAsks)
	if want != "" {
		if changed.Labels == nil {
			changed.Labels = map[string]string{}
		}
		changed.Labels[keys.NamespaceAsks] = want
	}
	err := n.pods.Patch(ctx, changed, client.MergeFrom(namespace), client.FieldOwner(keys.ManagerFields))
	return client.IgnoreNotFound(err)
}

// missed does something with the pods of a Namespace that run without the label, which admission gives to each that asks.
func (n *namespaces) missed(ctx context.Context, namespace string, do func(context.Context, *corev1.Pod) error) error {
	without, err := labels.NewRequirement(keys.CheckpointMode, selection.DoesNotExist, nil)
	if err != nil {
		return err
	}
	running := fields.AndSelectors(fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
	list := &corev1.PodList{}
	err = n.pods.Live.List(ctx, list, client.InNamespace(namespace),
		client.MatchingLabelsSelector{Selector: labels.NewSelector().Add(*without)}, client.MatchingFieldsSelector{Selector: running})
	for i := range list.Items {
		err = errors.Join(err, do(ctx, &list.Items[i]))
	}
	return err
}

// tellMissed says of a pod without a label, in a Namespace that asks for it, why it will not be captured, unless it wants that.
func (r *Reconciler) tellMissed(ctx context.Context, pod *corev1.Pod) error {
	if _, own := pod.Annotations[keys.CheckpointMode]; own && !podspec.Asks(pod) {
		return r.takeBack(ctx, pod)
	}
	_, err := r.protect(ctx, pod)
	return err
}

// takeBack takes away what was said of a pod of which nobody asks any more.
func (r *Reconciler) takeBack(ctx context.Context, pod *corev1.Pod) error {
	if podspec.Asks(pod) {
		return nil
	}
	return r.say(ctx, pod, "", "")
}
