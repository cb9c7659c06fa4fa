package matching

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
)

// RulesOf are the rules by which machines are compared under a policy; nil is the defaults.
func RulesOf(policy *v1alpha1.RestorePolicy) compat.Rules {
	if policy == nil {
		return compat.Rules{}
	}
	c := policy.Spec.Compatibility
	return compat.Rules{CPU: compat.CPURule(c.CPU), Kernel: compat.KernelRule(c.Kernel)}
}

// MachineOf are the facts of the machine that a Checkpoint was captured on; empty when it was not recorded.
func MachineOf(checkpoint *v1alpha1.Checkpoint) compat.Facts {
	m := checkpoint.Status.Machine
	if m == nil {
		return compat.Facts{}
	}
	return compat.Facts{
		Architecture: m.Architecture, Kernel: m.Kernel, PageSize: int(m.PageSizeBytes), Instructions: m.Instructions, XSave: int(m.XSaveBytes),
		ControlGroups: int(m.ControlGroups),
	}
}

// mismatch says in what node and new pod do not do for a captured one, as far as that is known before it is fetched (design M4). What is only seen in
// its images, such as rights, the runtime checks.
func (f Facts) mismatch(c *v1alpha1.Checkpoint) error {
	if err := f.elsewhere(c); err != nil {
		return err
	}
	if f.Machine != nil {
		if err := RulesOf(f.Policy).Check(*f.Machine, MachineOf(c)); err != nil {
			return err
		}
	}
	for _, captured := range c.Status.Containers {
		container := f.container(captured.Name)
		if container == nil {
			return fmt.Errorf("containers: the pod has no %q, which was captured", captured.Name)
		}
		limit, bounded := container.Resources.Limits[corev1.ResourceMemory]
		if needs := captured.MemoryBytes; bounded && needs != nil && limit.Value() < *needs {
			return fmt.Errorf("memory limit of container %q: it is %s; the captured processes have %s of memory", captured.Name, &limit,
				resource.NewQuantity(*needs, resource.BinarySI))
		}
		has, wants := f.Images[captured.Name], captured.ImageDigest
		if f.policyWantsImage() && container.ImagePullPolicy != corev1.PullAlways && has != "" && wants != "" && has != wants {
			return fmt.Errorf("image %s of container %q: this node has %s; the captured program ran %s", container.Image, captured.Name, has, wants)
		}
	}
	return nil
}

func (f Facts) policyWantsImage() bool {
	return f.Policy == nil || f.Policy.Spec.Compatibility.Image != v1alpha1.ImageIgnore
}

func (f Facts) container(name string) *corev1.Container {
	for _, containers := range [][]corev1.Container{f.Pod.Spec.Containers, f.Pod.Spec.InitContainers} {
		for i := range containers {
			if containers[i].Name == name {
				return &containers[i]
			}
		}
	}
	return nil
}
