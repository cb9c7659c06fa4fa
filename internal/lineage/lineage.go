// Package lineage says which pods are successors of which (design M1): what a controller makes from one revision of its template is one
// lineage, and a place inside it that only one pod can have is an identity. Manager and agent compute it, and must come to the same.
//
// It imports the API types, and which containers are proxies. Start reading at Of.
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
)

// Lineage is a pod's place among the pods that come before and after it.
type Lineage struct {
	// Owner is the controller that made the pod; nil for a plain one.
	Owner *v1alpha1.Owner
	// Lineage is the same for all pods of one controller and one revision of its template. It can be the value of a label.
	Lineage string
	// Identity is the pod's own place in that; empty where any pod can take up the work of any other.
	Identity string
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
		return Lineage{Lineage: hash("pod", pod.Namespace, pod.Name, templateHash(pod))}
	}
	kind := kindOf(controller)
	return Lineage{
		Owner:    &v1alpha1.Owner{APIVersion: controller.APIVersion, Kind: controller.Kind, Name: controller.Name, UID: controller.UID},
		Lineage:  hash("owner", string(controller.UID), revision(pod, kind)),
		Identity: identity(pod, kind),
	}
}

// kind is a controller of pods that we know the habits of.
type kind int

const (
	unknownKind kind = iota
	replicaSet
	statefulSet
	daemonSet
	job
)

// kindOf looks at the group, too: kinds of other groups have the same names, and other habits.
func kindOf(controller *metav1.OwnerReference) kind {
	switch group, _, _ := strings.Cut(controller.APIVersion, "/"); group + "/" + controller.Kind {
	case "apps/ReplicaSet":
		return replicaSet
	case "apps/StatefulSet":
		return statefulSet
	case "apps/DaemonSet":
		return daemonSet
	case "batch/Job":
		return job
	}
	return unknownKind
}

// revision is that of the template: by the label that the pod's controller gives, or by what the pod runs. A pod of another controller can bring
// such a label from its template, where it says nothing.
func revision(pod *corev1.Pod, kind kind) string {
	value := ""
	switch kind {
	case replicaSet:
		value = pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] // without a Deployment there is none
	case statefulSet, daemonSet:
		value = pod.Labels[appsv1.ControllerRevisionHashLabelKey]
	}
	if value != "" {
		return value
	}
	return templateHash(pod)
}

// identity is the pod's place. Where a controller gives its pods their names, the name is the place: a database's second member must not continue as
// its first. A pod whose name the API server made up can be replaced by any.
func identity(pod *corev1.Pod, kind kind) string {
	switch kind {
	case statefulSet:
		return short(pod.Name)
	case daemonSet: // its work is about its node, be it that node's logs, disks or network
		return short(nodeOf(pod))
	case job:
		if index := pod.Annotations[batchv1.JobCompletionIndexAnnotation]; index != "" {
			return index
		}
		return pod.Labels[batchv1.JobCompletionIndexAnnotation]
	case unknownKind:
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

// Workload is what all Checkpoints have in common that can concern a pod, whatever their revision: the value of a label by which they are found. It is
// the UID of the pod's controller, and for a plain pod a hash of its name. For a ReplicaSet that a Deployment made it is the Deployment's UID, which a
// pod does not tell: deployment is that UID, or empty for a ReplicaSet that stands alone.
func Workload(pod *corev1.Pod, deployment types.UID) string {
	controller := metav1.GetControllerOf(pod)
	switch {
	case controller == nil:
		return hash("pod", pod.Namespace, pod.Name)
	case kindOf(controller) == replicaSet && deployment != "":
		return string(deployment)
	}
	return string(controller.UID)
}

// ReplicaSetOf returns the name of the pod's ReplicaSet, above which a Deployment may be; empty for a pod of another controller.
func ReplicaSetOf(pod *corev1.Pod) string {
	if controller := metav1.GetControllerOf(pod); controller != nil && kindOf(controller) == replicaSet {
		return controller.Name
	}
	return ""
}

// TerminationCheckpoint returns the Checkpoint of a pod that is terminated, without a status, and the source that belongs into its status.
// It goes with the pod's controller: the garbage collector removes it when that is gone.
func TerminationCheckpoint(pod *corev1.Pod) (*v1alpha1.Checkpoint, v1alpha1.CheckpointSource) {
	own := Of(pod)
	labels := map[string]string{keys.Lineage: own.Lineage, keys.PodUID: string(pod.UID)}
	if ReplicaSetOf(pod) == "" { // or it is the manager's to find out
		labels[keys.Workload] = Workload(pod, "")
	}
	if own.Identity != "" {
		labels[keys.Identity] = own.Identity
	}
	checkpoint := &v1alpha1.Checkpoint{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "Checkpoint"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: v1alpha1.TerminationName(pod.Name, pod.UID), Labels: labels, Finalizers: []string{keys.CheckpointFinalizer},
		},
		Spec: v1alpha1.CheckpointSpec{SourcePodName: pod.Name, SourcePodUID: pod.UID, Trigger: v1alpha1.TriggerTermination},
	}
	if o := own.Owner; o != nil {
		checkpoint.OwnerReferences = []metav1.OwnerReference{{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID}}
	}
	return checkpoint, v1alpha1.CheckpointSource{
		PodUID: pod.UID, Node: pod.Spec.NodeName, Owner: own.Owner, Lineage: own.Lineage, Identity: own.Identity,
	}
}
