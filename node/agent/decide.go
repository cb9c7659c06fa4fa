package agent

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// gather reads what the choice for a new pod is made by. What it asks the API server for is narrow, so that other workloads of the namespace do not
// make it slower: labels are the index, and the rule verifies by the status what they find.
func (a *Agent) gather(ctx context.Context, pod *corev1.Pod) (matching.Facts, error) {
	f := matching.Facts{Pod: pod, Own: lineage.Of(pod), Now: a.Now(), Served: a.began, Here: func(c *v1alpha1.Checkpoint) bool { return a.localState(c) != "" },
		Gone: a.isGone(ctx)}
	if podspec.StartsCold(pod) {
		return f, nil
	}
	var err error
	// Pods and captures first: what is no longer among them has its Checkpoint by then, so that nothing slips through in between.
	f.Unpublished = a.unpublished(pod.Namespace)
	if f.Siblings, err = a.siblings(ctx, pod, f.Own); err != nil {
		return f, err
	}
	inNamespace := client.InNamespace(pod.Namespace)
	checkpoints, policies := &v1alpha1.CheckpointList{}, &v1alpha1.RestorePolicyList{}
	if err := a.Client.List(ctx, checkpoints, inNamespace, client.MatchingLabels{keys.Lineage: f.Own.Lineage}); err != nil {
		return f, err
	}
	if err := a.Client.List(ctx, policies, inNamespace); err != nil {
		return f, err
	}
	f.Checkpoints, f.Policy = checkpoints.Items, matching.PolicyOf(pod, policies.Items)
	if facts, err := a.machine(); err == nil {
		f.Machine = &facts
	}
	if err := a.addNamed(ctx, &f); err != nil {
		return f, err
	}
	if f.LooksWider() {
		if err := a.lookWider(ctx, &f); err != nil {
			return f, err
		}
	}
	if err := a.addSources(ctx, &f); err != nil {
		return f, err
	}
	if len(f.Checkpoints) > 0 {
		f.Images = a.imagesHere(ctx, pod)
	}
	return f, nil
}

// isGone returns what tells of a node whether nothing comes from it any more: it is no part of the cluster, or somebody has said that it is out of service, as
// Kubernetes asks a person to do before volumes are taken from it. That a node does not answer is no such sign. Each is asked about once.
func (a *Agent) isGone(ctx context.Context) func(node string) bool {
	known := map[string]bool{a.NodeName: false}
	return func(name string) bool {
		gone, asked := known[name]
		if asked {
			return gone
		}
		node := &corev1.Node{}
		err := a.Everywhere.Get(ctx, client.ObjectKey{Name: name}, node)
		known[name] = apierrors.IsNotFound(err) || err == nil && slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
			return t.Key == corev1.TaintNodeOutOfService
		})
		return known[name]
	}
}

// addSources adds the pods of which there are Checkpoints though they go on, as far as the siblings are not all of them: with such a pod nobody shares its
// work.
func (a *Agent) addSources(ctx context.Context, f *matching.Facts) error {
	for i := range f.Checkpoints {
		c := &f.Checkpoints[i]
		source := c.Status.Source
		if !c.Spec.Trigger.IsLive() || source == nil || c.Status.Claim != nil ||
			slices.ContainsFunc(f.Siblings, func(p corev1.Pod) bool { return p.UID == source.PodUID }) {
			continue
		}
		pod := &corev1.Pod{}
		err := a.Everywhere.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: c.Spec.SourcePodName}, pod)
		switch {
		case err == nil && pod.UID == source.PodUID:
			f.Siblings = append(f.Siblings, *pod)
		case client.IgnoreNotFound(err) != nil:
			return err
		}
	}
	return nil
}

// addNamed adds the Checkpoint that the pod or its policy names, which may be anybody's.
func (a *Agent) addNamed(ctx context.Context, f *matching.Facts) error {
	name := f.Named()
	if !v1alpha1.IsName(name) || slices.ContainsFunc(f.Checkpoints, func(c v1alpha1.Checkpoint) bool { return c.Name == name }) {
		return nil
	}
	named := &v1alpha1.Checkpoint{}
	err := a.Client.Get(ctx, client.ObjectKey{Namespace: f.Pod.Namespace, Name: name}, named)
	if err == nil {
		f.Checkpoints = append(f.Checkpoints, *named)
	}
	return client.IgnoreNotFound(err)
}

// siblings returns the labelled pods that the pod could replace, or that could take a Checkpoint from it.
func (a *Agent) siblings(ctx context.Context, pod *corev1.Pod, own lineage.Lineage) ([]corev1.Pod, error) {
	list, selector := &corev1.PodList{}, client.MatchingLabels{}
	where := []client.ListOption{client.InNamespace(pod.Namespace), client.HasLabels{keys.CheckpointMode}, selector}
	switch kind := lineage.KindOf(own.Owner); {
	case kind == lineage.DaemonSet: // they are on this node
		err := a.Client.List(ctx, list, where...)
		return podspec.Asking(list.Items), err
	case own.Owner == nil || own.Identity != "" && kind != lineage.Job:
		return nil, nil // it has the name of the one that it replaces, which is gone
	case kind == lineage.Job && pod.Labels[batchv1.ControllerUidLabel] != "":
		selector[batchv1.ControllerUidLabel] = pod.Labels[batchv1.ControllerUidLabel]
	case kind == lineage.ReplicaSet && pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != "":
		selector[appsv1.DefaultDeploymentUniqueLabelKey] = pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	}
	err := a.Everywhere.List(ctx, list, where...)
	return podspec.Asking(list.Items), err
}

// lookWider adds what other revisions of the pod's workload left, and whether a rollout replaces their pods: it tells why the pod starts cold, or
// the policy lets it go on from that.
func (a *Agent) lookWider(ctx context.Context, f *matching.Facts) error {
	deployment := types.UID("")
	if lineage.KindOf(f.Own.Owner) == lineage.ReplicaSet {
		var err error
		if deployment, f.Replaces, err = a.above(ctx, f.Pod.Namespace, f.Own.Owner); err != nil {
			return err
		}
	}
	f.Workload = lineage.Workload(f.Pod, f.Own, deployment)
	others := &v1alpha1.CheckpointList{}
	err := a.Client.List(ctx, others, client.InNamespace(f.Pod.Namespace), client.MatchingLabels{keys.Workload: f.Workload})
	for _, c := range others.Items {
		if c.Labels[keys.Lineage] != f.Own.Lineage && c.Name != f.Named() { // those are there
			f.Checkpoints = append(f.Checkpoints, c)
		}
	}
	return err
}

// above returns the UID of the controller of a ReplicaSet, and a sentence when that is a Deployment whose rollout has not ended: a pod of the new
// revision starts before one of the old is deleted, and there is no Checkpoint yet that would tell.
func (a *Agent) above(ctx context.Context, namespace string, replicaSet *v1alpha1.Owner) (types.UID, string, error) {
	set := &metav1.PartialObjectMetadata{}
	set.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	if err := a.Everywhere.Get(ctx, client.ObjectKey{Namespace: namespace, Name: replicaSet.Name}, set); err != nil {
		return "", "", client.IgnoreNotFound(err)
	}
	controller := metav1.GetControllerOf(set)
	if set.UID != replicaSet.UID || controller == nil {
		return "", "", nil
	}
	deployment := &appsv1.Deployment{}
	if controller.Kind != "Deployment" || controller.APIVersion != appsv1.SchemeGroupVersion.String() {
		return controller.UID, "", nil
	}
	if err := a.Everywhere.Get(ctx, client.ObjectKey{Namespace: namespace, Name: controller.Name}, deployment); err != nil {
		return controller.UID, "", client.IgnoreNotFound(err)
	}
	const revision = "deployment.kubernetes.io/revision"
	if old := deployment.Status.Replicas - deployment.Status.UpdatedReplicas; old > 0 && set.Annotations[revision] == deployment.Annotations[revision] {
		return controller.UID, fmt.Sprintf("revision %s of Deployment %s is being rolled out, %d of its pods are of an earlier one",
			set.Annotations[revision], deployment.Name, old), nil
	}
	return controller.UID, "", nil
}
