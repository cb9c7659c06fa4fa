// Package lineage says which pods are successors of which (design M1): what a controller makes from one revision of its template is one
// lineage, and a place inside it that only one pod can have is an identity. Manager and agent compute it, and must come to the same.
//
// It imports the API types, and what a pod says of itself. Start reading at Of.
package lineage

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Lineage is a pod's place among the pods that come before and after it.
type Lineage struct {
	// Owner is the controller that made the pod; nil for a plain one.
	Owner *v1alpha1.Owner
	// Lineage is the same for all pods of one controller and one revision of its template. It can be the value of a label.
	Lineage string
	// Identity is the pod's own place in that; empty where any pod can take up the work of any other.
	Identity string
	// RestoreFrom is the name of the Checkpoint that the line of the pod begins from, as the pod has it; empty for most. It does not belong to the place: it
	// says from which of those before the pod nothing is taken over.
	RestoreFrom string
}

// digits of a hash that stand in a Lineage.
const digits = 32

// Of returns the lineage of a pod.
//
// What it reads of a pod, its author can write. Who may make pods in a namespace can make one that looks like another owner's, and have it continue that
// owner's work; so labels count only for the kinds of controllers that write them, and whatever such a pod gets is of its own namespace, whose Secrets
// and volumes its author can mount as well. What a forged pod runs does not matter to a ReplicaSet's lineage: it is compared when it is restored
// (security context, files of the image).
func Of(pod *corev1.Pod) Lineage {
	controller := metav1.GetControllerOf(pod)
	if controller == nil {
		return Lineage{Lineage: hash("pod", pod.Namespace, pod.Name, templateHash(pod)), RestoreFrom: podspec.RestoreFrom(pod)}
	}
	return Under(pod, controller.UID)
}

// Under returns the lineage that a pod would have if its controller, which it has to have, had that UID.
func Under(pod *corev1.Pod, uid types.UID) Lineage {
	controller := metav1.GetControllerOf(pod)
	owner := &v1alpha1.Owner{APIVersion: controller.APIVersion, Kind: controller.Kind, Name: controller.Name, UID: uid}
	kind := KindOf(owner)
	return Lineage{
		Owner:       owner,
		Lineage:     hash("owner", string(uid), revision(pod, kind)),
		Identity:    identity(pod, kind),
		RestoreFrom: podspec.RestoreFrom(pod),
	}
}

// Kind is a kind of controllers whose habits we know.
type Kind int

// The kinds of Kubernetes itself whose pods can be told apart better than those of any controller.
const (
	Other Kind = iota
	ReplicaSet
	StatefulSet
	DaemonSet
	Job
)

// KindOf returns the kind of a controller. It looks at the group, too: kinds of other groups have the same names, and other habits.
func KindOf(owner *v1alpha1.Owner) Kind {
	if owner == nil {
		return Other
	}
	switch group, _, _ := strings.Cut(owner.APIVersion, "/"); group + "/" + owner.Kind {
	case "apps/ReplicaSet":
		return ReplicaSet
	case "apps/StatefulSet":
		return StatefulSet
	case "apps/DaemonSet":
		return DaemonSet
	case "batch/Job":
		return Job
	}
	return Other
}

// revision is that of the template: by the label that the pod's controller gives, or by what the pod runs. A pod of another controller can bring
// such a label from its template, where it says nothing.
func revision(pod *corev1.Pod, kind Kind) string {
	value := ""
	switch kind {
	case ReplicaSet:
		value = pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] // without a Deployment there is none
	case StatefulSet, DaemonSet:
		value = pod.Labels[appsv1.ControllerRevisionHashLabelKey]
	}
	if value != "" {
		return value
	}
	return templateHash(pod)
}

// identity is the pod's place. Where a controller gives its pods their names, the name is the place: a database's second member must not continue as
// its first. A pod whose name the API server made up can be replaced by any.
func identity(pod *corev1.Pod, kind Kind) string {
	switch kind {
	case StatefulSet:
		return short(pod.Name)
	case DaemonSet: // its work is about its node, be it that node's logs, disks or network
		return short(nodeOf(pod))
	case Job:
		if index := pod.Annotations[batchv1.JobCompletionIndexAnnotation]; index != "" {
			return index
		}
		return pod.Labels[batchv1.JobCompletionIndexAnnotation]
	case Other:
		if pod.GenerateName == "" {
			return short(pod.Name)
		}
	}
	return ""
}

// short is a name that fits into a label.
func short(name string) string {
	if len(name) > validation.LabelValueMaxLength {
		return hash(name)
	}
	return name
}

// nodeOf is the node of a pod, or the one that a DaemonSet made it for while it is not bound yet.
func nodeOf(pod *corev1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && field.Operator == corev1.NodeSelectorOpIn && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}

func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])[:digits]
}

// Labels are those by which a Checkpoint is found, as its source says. deployment is the UID of the controller above a ReplicaSet, a Deployment as a rule,
// which the source does not tell; empty if it is not known, or there is none.
func Labels(namespace, podName string, source v1alpha1.CheckpointSource, deployment types.UID) map[string]string {
	labels := map[string]string{keys.Lineage: source.Lineage, keys.PodUID: string(source.PodUID)}
	if source.Identity != "" {
		labels[keys.Identity] = source.Identity
	}
	if source.RestoreFrom != "" {
		labels[keys.BeganFrom] = source.RestoreFrom
	}
	switch o := source.Owner; {
	case o == nil:
		labels[keys.Workload] = hash("pod", namespace, podName)
	case KindOf(o) != ReplicaSet:
		labels[keys.Workload] = string(o.UID)
	case deployment != "":
		labels[keys.Workload] = string(deployment)
	}
	return labels
}

// Workload is the value of the label that all Checkpoints have which the workload of a pod left, in whatever revision.
func Workload(pod *corev1.Pod, own Lineage, deployment types.UID) string {
	if deployment == "" && own.Owner != nil {
		return string(own.Owner.UID)
	}
	return Labels(pod.Namespace, pod.Name, v1alpha1.CheckpointSource{Owner: own.Owner}, deployment)[keys.Workload]
}

// NodeLabel is the name of a node as the value of the label keys.SourceNode.
func NodeLabel(node string) string { return short(node) }

// unknown begins the lineage of a pod of which nothing but its name and UID is known.
const unknown = "unknown-"

// Unknown returns the lineage of such a pod, which it shares with no other.
func Unknown(podUID string) string { return unknown + podUID[:min(len(podUID), 8)] }

// IsUnknown tells whether it is one.
func IsUnknown(lineage string) bool { return strings.HasPrefix(lineage, unknown) }

// TerminationCheckpoint returns the Checkpoint of a pod that is terminated, without a status, and the source that belongs into its status.
// It goes with the pod's controller: the garbage collector removes it when that is gone.
func TerminationCheckpoint(pod *corev1.Pod) (*v1alpha1.Checkpoint, v1alpha1.CheckpointSource) {
	own := Of(pod)
	source := v1alpha1.CheckpointSource{
		PodUID: pod.UID, Node: pod.Spec.NodeName, Owner: own.Owner, Lineage: own.Lineage, Identity: own.Identity,
	}
	if v1alpha1.IsName(own.RestoreFrom) { // what is none came past admission, and would keep the state from being published
		source.RestoreFrom = own.RestoreFrom
	}
	checkpoint := &v1alpha1.Checkpoint{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Checkpoint"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: v1alpha1.TerminationName(pod.Name, pod.UID),
			Labels: Labels(pod.Namespace, pod.Name, source, ""), Finalizers: []string{keys.CheckpointFinalizer},
		},
		Spec: v1alpha1.CheckpointSpec{SourcePodName: pod.Name, SourcePodUID: pod.UID, Trigger: TriggerOf(pod, nil)},
	}
	if o := own.Owner; o != nil {
		checkpoint.OwnerReferences = []metav1.OwnerReference{{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID}}
	}
	if len(pod.Labels) <= v1alpha1.MaxSourceLabels {
		source.Labels = pod.Labels
	}
	return checkpoint, source
}

// LiveCheckpoint returns the Checkpoint of a pod that goes on, for the agent of its node, without a status. It goes with the pod's controller.
func LiveCheckpoint(pod *corev1.Pod, trigger v1alpha1.CheckpointTrigger, which string) *v1alpha1.Checkpoint {
	checkpoint, _ := TerminationCheckpoint(pod)
	checkpoint.Name, checkpoint.Spec.Trigger = v1alpha1.LiveName(pod.Name, pod.UID, which), trigger
	return checkpoint
}

// TriggerOf tells why a pod is terminated, by what it says and by its node, which may be nil.
func TriggerOf(pod *corev1.Pod, node *corev1.Node) v1alpha1.CheckpointTrigger {
	reason := pod.Status.Reason // the kubelet's
	if c := podspec.Condition(pod, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue && c.Reason != corev1.PodReasonTerminationByKubelet {
		reason = c.Reason
	}
	switch reason {
	case corev1.PodReasonPreemptionByScheduler, "Preempting":
		return v1alpha1.TriggerPreemption
	case "DeletionByTaintManager":
		return v1alpha1.TriggerTaint
	case "EvictionByEvictionAPI":
		if node != nil && node.Spec.Unschedulable {
			return v1alpha1.TriggerDrain
		}
		return v1alpha1.TriggerEviction
	case "Evicted":
		return v1alpha1.TriggerNodePressure
	case "Terminated", "NodeShutdown":
		return v1alpha1.TriggerNodeShutdown
	}
	switch {
	case !pod.DeletionTimestamp.IsZero():
		return v1alpha1.TriggerDelete
	case podspec.IsGivenUp(pod):
		return v1alpha1.TriggerProbe
	}
	return v1alpha1.TriggerTermination
}

// Outlive has a Checkpoint that is going to be made stay when its owner is deleted, if the retention says so.
func Outlive(checkpoint *v1alpha1.Checkpoint, retention v1alpha1.CheckpointRetention) {
	if retention.OnOwnerDeleted == v1alpha1.DisposalKeep {
		checkpoint.OwnerReferences = nil
	}
}
