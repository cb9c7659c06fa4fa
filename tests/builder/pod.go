package builder

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Pod is a pod in the making.
type Pod struct{ pod corev1.Pod }

// MakePod begins a pod of one container, "app", that does not run as anything in particular.
func MakePod(namespace, name string) *Pod {
	return &Pod{corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	}}
}

// Obj returns the pod.
func (p *Pod) Obj() *corev1.Pod { return p.pod.DeepCopy() }

// Label gives the pod a label.
func (p *Pod) Label(key, value string) *Pod {
	p.pod.Labels[key] = value
	return p
}

// Labelled gives the pod the label that has it captured.
func (p *Pod) Labelled() *Pod { return p.Label(keys.CheckpointMode, keys.True) }

// Admitted gives the pod what admission gives a labelled one.
func (p *Pod) Admitted() *Pod {
	p.pod.Annotations[keys.Effective] = `{"schemaVersion":1,"containers":["app"],"gracePeriodSeconds":120}`
	p.pod.Spec.RuntimeClassName = new(keys.RuntimeClass)
	p.pod.Spec.TerminationGracePeriodSeconds = new(int64(120))
	return p.Labelled()
}

// Node binds the pod to a node. To one that there is not, so that no kubelet meddles.
func (p *Pod) Node(name string) *Pod {
	p.pod.Spec.NodeName = name
	return p
}

// ControlledBy makes an object the pod's controller.
func (p *Pod) ControlledBy(apiVersion, kind string, owner metav1.Object) *Pod {
	p.pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: apiVersion, Kind: kind, Name: owner.GetName(), UID: owner.GetUID(), Controller: new(true),
	}}
	return p
}
