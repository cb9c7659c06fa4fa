// Package lineage says which pods are successors of which (design M1): what a controller makes from one revision of its template is one
// lineage, and a place inside it that only one pod can have is an identity. Manager and agent compute it, and must come to the same.
//
// It imports the API types alone. Start reading at Of.
package lineage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
func Of(pod *corev1.Pod) Lineage {
	controller := metav1.GetControllerOf(pod)
	if controller == nil {
		return Lineage{Lineage: hash("pod", pod.Namespace, pod.Name, revision(pod))}
	}
	return Lineage{
		Owner:    &v1alpha1.Owner{APIVersion: controller.APIVersion, Kind: controller.Kind, Name: controller.Name, UID: controller.UID},
		Lineage:  hash("owner", string(controller.UID), revision(pod)),
		Identity: identity(pod, controller),
	}
}

// revision is that of the template: by the label of the controller, or by what the pod runs.
func revision(pod *corev1.Pod) string {
	for _, label := range []string{appsv1.DefaultDeploymentUniqueLabelKey, appsv1.ControllerRevisionHashLabelKey} {
		if value := pod.Labels[label]; value != "" {
			return value
		}
	}
	return templateHash(pod)
}

func identity(pod *corev1.Pod, controller *metav1.OwnerReference) string {
	switch controller.Kind {
	case "StatefulSet":
		if len(pod.Name) > 63 {
			return hash(pod.Name)
		}
		return pod.Name
	case "Job":
		if index := pod.Annotations[batchv1.JobCompletionIndexAnnotation]; index != "" {
			return index
		}
		return pod.Labels[batchv1.JobCompletionIndexAnnotation]
	}
	return ""
}

// runs is what counts of a container: what it executes, in what surroundings, and with what rights.
type runs struct {
	Name, Image, WorkingDir string
	Command, Args           []string
	Env                     []corev1.EnvVar
	EnvFrom                 []corev1.EnvFromSource
	Mounts                  []corev1.VolumeMount
	SecurityContext         *corev1.SecurityContext
}

// templateHash is the same for pods of the same template, whatever admission, scheduler and service-account plugin added to each.
func templateHash(pod *corev1.Pod) string {
	var all []runs
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		mounts := slices.DeleteFunc(slices.Clone(c.VolumeMounts), func(m corev1.VolumeMount) bool {
			return strings.HasPrefix(m.MountPath, "/var/run/secrets/kubernetes.io/serviceaccount")
		})
		if len(mounts) == 0 {
			mounts = nil // as JSON, none and an empty list differ
		}
		all = append(all, runs{
			Name: c.Name, Image: c.Image, WorkingDir: c.WorkingDir, Command: c.Command, Args: c.Args, Env: c.Env, EnvFrom: c.EnvFrom,
			Mounts: mounts, SecurityContext: c.SecurityContext,
		})
	}
	text, err := json.Marshal(struct {
		Containers []runs
		Pod        *corev1.PodSecurityContext
	}{all, pod.Spec.SecurityContext})
	if err != nil { // no type in it can fail
		return ""
	}
	return hash(string(text))
}

func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])[:digits]
}

// TerminationCheckpoint returns the Checkpoint of a pod that is terminated, without a status, and the source that belongs into its status.
// It goes with the pod's controller: the garbage collector removes it when that is gone.
func TerminationCheckpoint(pod *corev1.Pod) (*v1alpha1.Checkpoint, v1alpha1.CheckpointSource) {
	own := Of(pod)
	labels := map[string]string{keys.Lineage: own.Lineage, keys.PodUID: string(pod.UID)}
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
