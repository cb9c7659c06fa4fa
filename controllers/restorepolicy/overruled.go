package restorepolicy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// overruled says whether other policies decide for pods that the policy applies to. It names the policies and no pods, so that it does not
// change with every pod that comes and goes.
func (r *Reconciler) overruled(ctx context.Context, policy *v1alpha1.RestorePolicy) (metav1.Condition, error) {
	c := metav1.Condition{
		Type: v1alpha1.RestorePolicyOverruled, Status: metav1.ConditionFalse, Reason: v1alpha1.RestorePolicyOnly, ObservedGeneration: policy.Generation,
		Message: "it decides for every pod that it applies to",
	}
	policies, pods := &v1alpha1.RestorePolicyList{}, &corev1.PodList{}
	if err := r.Client.List(ctx, policies, client.InNamespace(policy.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return c, err
	}
	policies.Items = slices.DeleteFunc(slices.Clone(policies.Items), func(p v1alpha1.RestorePolicy) bool {
		return p.UID != policy.UID && !matching.GoesBefore(&p, policy)
	})
	if len(policies.Items) < 2 { // as nearly always: nobody has to look at the pods
		return c, nil
	}
	labelled := client.HasLabels{keys.CheckpointMode}
	if err := r.Client.List(ctx, pods, client.InNamespace(policy.Namespace), labelled, client.UnsafeDisableDeepCopy); err != nil {
		return c, err
	}
	if first := firsts(policy, policies.Items, podspec.Asking(pods.Items)); len(first) > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.RestorePolicyAnotherFirst
		c.Message = fmt.Sprintf("for pods that it applies to RestorePolicy %s decides: one with a selector goes before one of an owner, then the older one, "+
			"then the first by name", strings.Join(first, " or "))
	}
	return c, nil
}

// firsts returns the names of the policies that decide for pods to which another applies as well.
func firsts(policy *v1alpha1.RestorePolicy, policies []v1alpha1.RestorePolicy, pods []corev1.Pod) (names []string) {
	for i := range pods {
		all := matching.Applying(&pods[i], policies)
		if len(all) < 2 || all[0].UID == policy.UID || slices.Contains(names, all[0].Name) {
			continue
		}
		if slices.ContainsFunc(all, func(p *v1alpha1.RestorePolicy) bool { return p.UID == policy.UID }) {
			names = append(names, all[0].Name)
		}
	}
	slices.Sort(names)
	return names
}

// neighbours are the policies that another one may overrule: of those only one with a selector can.
func (r *Reconciler) neighbours(ctx context.Context, object client.Object) (all []reconcile.Request) {
	if policy, is := object.(*v1alpha1.RestorePolicy); !is || policy.Spec.Selector == nil {
		return nil
	}
	policies := &v1alpha1.RestorePolicyList{}
	if err := r.Client.List(ctx, policies, client.InNamespace(object.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
		return nil // the cache fails for kinds that it does not know only
	}
	for i := range policies.Items {
		if policies.Items[i].UID != object.GetUID() {
			all = append(all, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&policies.Items[i])})
		}
	}
	return all
}

// ofPod are the policies that apply to a pod, if there are several.
func (r *Reconciler) ofPod(ctx context.Context, object client.Object) (all []reconcile.Request) {
	pod, is := object.(*corev1.Pod)
	if !is || !podspec.Asks(pod) {
		return nil
	}
	policies := &v1alpha1.RestorePolicyList{}
	if err := r.Client.List(ctx, policies, client.InNamespace(pod.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	applying := matching.Applying(pod, policies.Items)
	if len(applying) < 2 {
		return nil
	}
	for _, policy := range applying {
		all = append(all, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(policy)})
	}
	return all
}

// successorDelay is how long we wait for the successor of a pod that is gone before we say that no pod is left that policies share.
const successorDelay = time.Minute

// podHandler looks at policies when pods come, change their labels, or are gone for good.
func (r *Reconciler) podHandler() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	add := func(ctx context.Context, q queue, after time.Duration, objects ...client.Object) {
		for _, object := range objects {
			for _, request := range r.ofPod(ctx, object) {
				q.AddAfter(request, after)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { add(ctx, q, 0, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { add(ctx, q, 0, e.ObjectOld, e.ObjectNew) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { add(ctx, q, successorDelay, e.Object) },
	}
}
