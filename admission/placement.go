package admission

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Placement has new pods prefer the nodes on which their captured programs can go on (design M4). It is a wish and no demand: where none of them
// has room the pod runs elsewhere, from scratch, and says why.
type Placement struct {
	// Reader reads from a cache: a pod is being made meanwhile.
	Reader client.Reader
	Now    func() time.Time
}

// most is the weight of a preference that goes before all others.
const most = 100

// Prefer adds the preference to a pod that is being made. There is none when nothing is known to restore, or when every node does.
func (p Placement) Prefer(ctx context.Context, pod *corev1.Pod) error {
	if pod.Spec.NodeName != "" {
		return nil
	}
	nodes := &corev1.NodeList{}
	if err := p.Reader.List(ctx, nodes, client.MatchingLabels{keys.NodeReady: keys.True}); err != nil {
		return err
	}
	if len(slices.Compact(classesOf(nodes.Items))) < 2 { // they are all alike
		return nil
	}
	f, err := p.gather(ctx, pod)
	if err != nil {
		return err
	}
	checkpoint, source := matching.Expected(f)
	captured := compat.Facts{}
	if checkpoint != nil {
		captured = matching.MachineOf(checkpoint)
	} else if i := slices.IndexFunc(nodes.Items, func(n corev1.Node) bool { return n.Name == source }); i >= 0 {
		captured, _ = factsOf(&nodes.Items[i])
	}
	if classes := fitting(matching.RulesOf(f.Policy), captured, nodes.Items); len(classes) > 0 {
		prefer(pod, classes)
	}
	return nil
}

func (p Placement) gather(ctx context.Context, pod *corev1.Pod) (matching.Facts, error) {
	own := lineage.Of(pod)
	f := matching.Facts{Pod: pod, Own: own, Here: func(*v1alpha1.Checkpoint) bool { return false }, Now: p.Now()}
	checkpoints, policies, siblings := &v1alpha1.CheckpointList{}, &v1alpha1.RestorePolicyList{}, &corev1.PodList{}
	inNamespace := client.InNamespace(pod.Namespace)
	if err := p.Reader.List(ctx, checkpoints, inNamespace, client.MatchingLabels{keys.Lineage: own.Lineage}); err != nil {
		return f, err
	}
	if err := p.Reader.List(ctx, policies, inNamespace); err != nil {
		return f, err
	}
	if err := p.Reader.List(ctx, siblings, inNamespace, client.HasLabels{keys.CheckpointMode}); err != nil {
		return f, err
	}
	f.Checkpoints, f.Siblings, f.Policy = checkpoints.Items, podspec.Asking(siblings.Items), matching.PolicyOf(pod, policies.Items)
	if v1alpha1.IsName(own.RestoreFrom) {
		named := &v1alpha1.Checkpoint{}
		err := p.Reader.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: own.RestoreFrom}, named)
		if client.IgnoreNotFound(err) != nil {
			return f, err
		}
		if err == nil {
			f.Checkpoints = append(f.Checkpoints, *named)
		}
	}
	return f, nil
}

// classesOf are the classes of nodes, in order.
func classesOf(nodes []corev1.Node) []string {
	var classes []string
	for _, node := range nodes {
		classes = append(classes, node.Labels[keys.NodeClass])
	}
	slices.Sort(classes)
	return classes
}

// fitting are the classes of the nodes on which a program can go on; none when all nodes are among them, or when there is nothing to tell by.
func fitting(rules compat.Rules, captured compat.Facts, nodes []corev1.Node) []string {
	var classes []string
	all := true
	for i := range nodes {
		facts, known := factsOf(&nodes[i])
		if !known || captured == (compat.Facts{}) {
			continue
		}
		if rules.Check(facts, captured) != nil {
			all = false
			continue
		}
		classes = append(classes, nodes[i].Labels[keys.NodeClass])
	}
	if all {
		return nil
	}
	slices.Sort(classes)
	return slices.Compact(classes)
}

// factsOf are what the agent of a node has written about it.
func factsOf(node *corev1.Node) (facts compat.Facts, known bool) {
	err := json.Unmarshal([]byte(node.Annotations[keys.NodeFacts]), &facts)
	return facts, err == nil && node.Labels[keys.NodeClass] == facts.Class()
}

// prefer adds the preference, beside those that are there.
func prefer(pod *corev1.Pod, classes []string) {
	wish := corev1.PreferredSchedulingTerm{Weight: most, Preference: corev1.NodeSelectorTerm{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: keys.NodeClass, Operator: corev1.NodeSelectorOpIn, Values: classes}},
	}}
	if pod.Spec.Affinity == nil {
		pod.Spec.Affinity = &corev1.Affinity{}
	}
	if pod.Spec.Affinity.NodeAffinity == nil {
		pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	affinity := pod.Spec.Affinity.NodeAffinity
	affinity.PreferredDuringSchedulingIgnoredDuringExecution = append(slices.DeleteFunc(affinity.PreferredDuringSchedulingIgnoredDuringExecution,
		func(t corev1.PreferredSchedulingTerm) bool {
			return slices.ContainsFunc(t.Preference.MatchExpressions, func(r corev1.NodeSelectorRequirement) bool { return r.Key == keys.NodeClass })
		}), wish)
}
