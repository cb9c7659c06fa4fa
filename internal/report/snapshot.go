package report

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Snapshot is what is known of a namespace, or of all, at one moment.
type Snapshot struct {
	// Namespace is the one that is looked at; nil when that is all of them.
	Namespace *corev1.Namespace

	Pods               []corev1.Pod
	ReplicaSets        []appsv1.ReplicaSet
	Checkpoints        []v1alpha1.Checkpoint
	RestorePolicies    []v1alpha1.RestorePolicy
	CheckpointPolicies []v1alpha1.CheckpointPolicy
	Locations          []v1alpha1.CheckpointStorageLocation
	Nodes              []corev1.Node

	// Config is what is said for the whole operator, and ConfigError what of it cannot be understood.
	Config      operator.Config
	ConfigError error
	// Unread is what the user has no right to read, in words.
	Unread []string
	Now    time.Time
}

// in leaves of some objects those of a namespace.
func in[O any](all []O, namespace string, of func(*O) string) []O {
	var left []O
	for i := range all {
		if of(&all[i]) == namespace {
			left = append(left, all[i])
		}
	}
	return left
}

func (s *Snapshot) checkpointsIn(namespace string) []v1alpha1.Checkpoint {
	return in(s.Checkpoints, namespace, func(c *v1alpha1.Checkpoint) string { return c.Namespace })
}

func (s *Snapshot) restorePoliciesIn(namespace string) []v1alpha1.RestorePolicy {
	return in(s.RestorePolicies, namespace, func(p *v1alpha1.RestorePolicy) string { return p.Namespace })
}

func (s *Snapshot) checkpointPoliciesIn(namespace string) []v1alpha1.CheckpointPolicy {
	return in(s.CheckpointPolicies, namespace, func(p *v1alpha1.CheckpointPolicy) string { return p.Namespace })
}

// facts are what a new pod would be decided about by, if it were on a node of which nothing is known. A node that is no part of the cluster is gone.
func (s *Snapshot) facts(pod *corev1.Pod, own lineage.Lineage) matching.Facts {
	siblings := in(s.Pods, pod.Namespace, func(p *corev1.Pod) string { return p.Namespace })
	siblings = slices.DeleteFunc(siblings, func(p corev1.Pod) bool { return p.UID == pod.UID || !podspec.Asks(&p) })
	return matching.Facts{
		Pod: pod, Own: own, Workload: lineage.Workload(pod, own, s.deploymentOf(pod.Namespace, own)),
		Policy:      matching.PolicyOf(pod, s.restorePoliciesIn(pod.Namespace)),
		Checkpoints: s.checkpointsIn(pod.Namespace), Siblings: siblings,
		Here: func(*v1alpha1.Checkpoint) bool { return false }, Gone: s.isGone, Now: s.Now, Served: s.Now,
	}
}

// isGone tells whether it is known that a node is no part of the cluster.
func (s *Snapshot) isGone(node string) bool {
	return len(s.Nodes) > 0 && !slices.ContainsFunc(s.Nodes, func(n corev1.Node) bool {
		return n.Name == node && !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
	})
}

// deploymentOf is the UID of the Deployment above the owner of a pod, where there is one.
func (s *Snapshot) deploymentOf(namespace string, own lineage.Lineage) types.UID {
	if controller := s.above(namespace, own.Owner); controller != nil {
		return controller.UID
	}
	return ""
}

// above returns the controller of the ReplicaSet that an owner is; nil where it is none, or has none.
func (s *Snapshot) above(namespace string, owner *v1alpha1.Owner) *metav1.OwnerReference {
	if owner == nil {
		return nil
	}
	for i := range s.ReplicaSets {
		if set := &s.ReplicaSets[i]; set.Namespace == namespace && set.UID == owner.UID {
			return metav1.GetControllerOf(set)
		}
	}
	return nil
}

// workload is how a person calls what makes a pod: Deployment/web, Job/train, or Pod/NAME of a plain one.
func (s *Snapshot) workload(namespace, podName string, owner *v1alpha1.Owner) string {
	if owner == nil {
		return "Pod/" + podName
	}
	if controller := s.above(namespace, owner); controller != nil {
		return controller.Kind + "/" + controller.Name
	}
	return owner.Kind + "/" + owner.Name
}

// successor is a pod that would take a place, made now: of which nothing is known but what its owner gives all of its pods.
func successor(like *corev1.Pod, now time.Time) *corev1.Pod {
	pod := like.DeepCopy()
	pod.UID, pod.ResourceVersion, pod.DeletionTimestamp, pod.CreationTimestamp = "successor-of-"+like.UID, "", nil, metav1.NewTime(now)
	pod.Spec.NodeName, pod.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
	return pod
}

// ofSource is a pod as the one was of which a Checkpoint was taken, as far as the Checkpoint tells.
func ofSource(c *v1alpha1.Checkpoint, now time.Time) (*corev1.Pod, lineage.Lineage) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: c.Namespace, Name: c.Spec.SourcePodName, UID: "successor-of-" + c.UID, CreationTimestamp: metav1.NewTime(now),
	}}
	source := c.Status.Source
	if source == nil {
		return pod, lineage.Of(pod)
	}
	pod.Labels = source.Labels
	if pod.Labels[keys.CheckpointMode] == "" { // its namespace asked for it
		pod.Annotations = map[string]string{keys.CheckpointMode: keys.True}
	}
	if o := source.Owner; o != nil {
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID, Controller: new(true)}}
	}
	for _, captured := range c.Status.Containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: captured.Name, Image: captured.Image})
	}
	return pod, lineage.Lineage{Owner: source.Owner, Lineage: source.Lineage, Identity: source.Identity, RestoreFrom: source.RestoreFrom}
}

// newestFirst orders Checkpoints by the moment of their capture, those that have none yet first.
func newestFirst(x, y *v1alpha1.Checkpoint) int {
	return cmp.Or(takenAt(y).Compare(takenAt(x)), cmp.Compare(x.Name, y.Name))
}

// takenAt is when a Checkpoint was captured, or else made.
func takenAt(c *v1alpha1.Checkpoint) time.Time {
	if c.Status.CaptureTime != nil {
		return c.Status.CaptureTime.Time
	}
	return c.CreationTimestamp.Time
}
