package removal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// partOf selects what was installed with the operator.
var partOf = client.MatchingLabels{"app.kubernetes.io/part-of": "transparent-checkpoint"}

// ourselves is the name of the objects with which this runs: they go last, with the namespace.
const ourselves = "checkpoint-uninstall"

// kind is one of a group's version 1.
func kind(group, name string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: group, Version: "v1", Kind: name}
}

// removeAll deletes all objects of a kind that were installed with the operator. A kind that the cluster does not have has none.
func (r *Removal) removeAll(ctx context.Context, of schema.GroupVersionKind) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(of.GroupVersion().WithKind(of.Kind + "List"))
	if err := r.Client.List(ctx, list, partOf); err != nil {
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("list %s: %w", of.Kind, err)
	}
	for i := range list.Items {
		object := &list.Items[i]
		if object.Name == ourselves {
			continue
		}
		r.say("  %s %s\n", of.Kind, object.Name)
		object.SetGroupVersionKind(of)
		if err := client.IgnoreNotFound(r.Client.Delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationBackground))); err != nil {
			return fmt.Errorf("delete %s %s: %w", of.Kind, object.Name, err)
		}
	}
	return nil
}

func (r *Removal) removeWebhooks(ctx context.Context) error {
	for _, name := range []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} {
		if err := r.removeAll(ctx, kind("admissionregistration.k8s.io", name)); err != nil {
			return err
		}
	}
	return nil
}

// removeAgents deletes the DaemonSet while its ServiceAccount and its rights are there, and waits until the last of its pods has taken the runtime off its
// node. A node that is gone or down has no pod that ends; after the patience it is named, and left.
func (r *Removal) removeAgents(ctx context.Context) error {
	sets := &appsv1.DaemonSetList{}
	if err := r.Client.List(ctx, sets, partOf); err != nil {
		return err
	}
	for i := range sets.Items {
		err := r.Client.Delete(ctx, &sets.Items[i], client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	left, err := r.awaitNoPods(ctx, "checkpoint-agent")
	if err == nil && len(left) > 0 {
		r.say("  these did not end within %s, and their nodes may keep the runtime: %s\n", r.Patience, some(left))
	}
	return err
}

// awaitNoPods waits until no pod of a name is left, and returns those that are.
func (r *Removal) awaitNoPods(ctx context.Context, name string) ([]string, error) {
	return r.await(ctx, func(ctx context.Context) (names []string, err error) {
		pods := &corev1.PodList{}
		if err := r.Client.List(ctx, pods, client.MatchingLabels{"app.kubernetes.io/name": name}); err != nil {
			return nil, err
		}
		for _, pod := range pods.Items {
			names = append(names, fmt.Sprintf("%s on %s", pod.Name, pod.Spec.NodeName))
		}
		slices.Sort(names)
		return names, nil
	})
}

func (r *Removal) removeManager(ctx context.Context) error {
	deployments := &appsv1.DeploymentList{}
	if err := r.Client.List(ctx, deployments, partOf); err != nil {
		return err
	}
	for i := range deployments.Items {
		err := r.Client.Delete(ctx, &deployments.Items[i], client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	left, err := r.awaitNoPods(ctx, "checkpoint-manager")
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("after %s there still are: %s", r.Patience, some(left))
	}
	return err
}

// cleanObjects takes off what manager and agents have written on objects of others. A node with pods of ours keeps the label by which they may be there:
// kubelet asks for it again when it starts.
func (r *Removal) cleanObjects(ctx context.Context) error {
	pods, err := r.ourPods(ctx)
	if err != nil {
		return err
	}
	nodes := &corev1.NodeList{}
	if err := r.Client.List(ctx, nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		if len(pods[node.Name]) > 0 {
			r.say("  node %s keeps its labels and a runtime that captures nothing, for as long as it has these pods: %s\n",
				node.Name, some(pods[node.Name]))
			continue
		}
		if err := r.clean(ctx, node, "memverge.ai/"); err != nil {
			return err
		}
	}
	namespaces := &corev1.NamespaceList{}
	if err := r.Client.List(ctx, namespaces, client.HasLabels{keys.NamespaceAsks}); err != nil {
		return err
	}
	for i := range namespaces.Items {
		if err := r.clean(ctx, &namespaces.Items[i], keys.NamespaceAsks); err != nil {
			return err
		}
	}
	return nil
}

// clean takes the labels and annotations off an object that begin with something.
func (r *Removal) clean(ctx context.Context, object client.Object, prefix string) error {
	before := client.MergeFrom(object.DeepCopyObject().(client.Object))
	ours := func(key, _ string) bool { return strings.HasPrefix(key, prefix) }
	labels, annotations := object.GetLabels(), object.GetAnnotations()
	was := len(labels) + len(annotations)
	maps.DeleteFunc(labels, ours)
	maps.DeleteFunc(annotations, ours)
	if len(labels)+len(annotations) == was {
		return nil
	}
	return client.IgnoreNotFound(r.Client.Patch(ctx, object, before))
}

// removeRuntimeClasses deletes ours, unless pods name one: without it kubelet could not start them again after its node has.
func (r *Removal) removeRuntimeClasses(ctx context.Context) error {
	pods, err := r.ourPods(ctx)
	if err != nil {
		return err
	}
	classes := &nodev1.RuntimeClassList{}
	if err := r.Client.List(ctx, classes); err != nil {
		return err
	}
	for i := range classes.Items {
		class := &classes.Items[i]
		if !keys.IsRuntimeClass(class.Name) {
			continue
		}
		if len(pods) > 0 {
			all := slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Values(pods))...)))
			r.say("  RuntimeClass %s stays, as %d pods run with it: %s\n"+
				"  When they are gone: kubectl delete runtimeclass %[1]s, and take the labels off their nodes: docs/installation.md\n", class.Name, len(all), some(all))
			continue
		}
		if err := client.IgnoreNotFound(r.Client.Delete(ctx, class)); err != nil {
			return err
		}
	}
	return nil
}

// removeObjects deletes what is left, but for the namespaces.
func (r *Removal) removeObjects(ctx context.Context) error {
	if !r.KeepCRDs {
		if err := r.removeAll(ctx, kind("apiextensions.k8s.io", "CustomResourceDefinition")); err != nil {
			return err
		}
	}
	if r.KeepObjects {
		r.say("  they are left to who installed them\n")
		return nil
	}
	for _, of := range []schema.GroupVersionKind{
		kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
		kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
		kind("rbac.authorization.k8s.io", "ClusterRoleBinding"),
		kind("rbac.authorization.k8s.io", "ClusterRole"),
	} {
		if err := r.removeAll(ctx, of); err != nil {
			return err
		}
	}
	return nil
}

// removeNamespaces deletes them, ours at the very end: this pod, and the rights with which it runs, go with it.
func (r *Removal) removeNamespaces(ctx context.Context) error {
	if r.KeepObjects {
		return nil
	}
	list := &corev1.NamespaceList{}
	if err := r.Client.List(ctx, list, partOf); err != nil {
		return err
	}
	var own *corev1.Namespace
	for i := range list.Items {
		if list.Items[i].Name == r.Namespace {
			own = &list.Items[i]
		} else if err := client.IgnoreNotFound(r.Client.Delete(ctx, &list.Items[i])); err != nil {
			return err
		}
	}
	if own == nil {
		return nil
	}
	if err := r.bequeath(ctx, own); err != nil {
		return err
	}
	return client.IgnoreNotFound(r.Client.Delete(ctx, own))
}

// bequeath makes the cluster's rights with which this runs go with the namespace.
func (r *Removal) bequeath(ctx context.Context, namespace *corev1.Namespace) error {
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Namespace", Name: namespace.Name, UID: namespace.UID}
	var errs []error
	for _, name := range []string{"ClusterRole", "ClusterRoleBinding"} {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(kind("rbac.authorization.k8s.io", name))
		err := r.Client.Get(ctx, client.ObjectKey{Name: ourselves}, object)
		if err == nil {
			before := client.MergeFrom(object.DeepCopy())
			object.SetOwnerReferences([]metav1.OwnerReference{owner})
			err = r.Client.Patch(ctx, object, before)
		}
		errs = append(errs, client.IgnoreNotFound(err))
	}
	return errors.Join(errs...)
}
