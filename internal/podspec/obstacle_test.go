package podspec

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/transparent-checkpoint/operator/internal/keys"
)

func limits(names ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{}
		for _, name := range names {
			p.Spec.Containers[0].Resources.Limits[corev1.ResourceName(name)] = resource.MustParse("1")
		}
	}
}

func TestObstacles(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   string
		says   string
	}{
		"none":                     {change: func(*corev1.Pod) {}},
		"our own RuntimeClass":     {change: func(p *corev1.Pod) { p.Spec.RuntimeClassName = new(keys.RuntimeClass) }},
		"that of another handler":  {change: func(p *corev1.Pod) { p.Spec.RuntimeClassName = new(keys.RuntimeClass + "-nvidia") }},
		"another RuntimeClass":     {func(p *corev1.Pod) { p.Spec.RuntimeClassName = new("kata") }, keys.UnprotectedOtherRuntimeClass, "kata"},
		"a mirror pod":             {func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }, keys.UnprotectedMirrorPod, ""},
		"Windows":                  {func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, keys.UnprotectedWindows, ""},
		"a node that is Windows":   {func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelOSStable: "windows"} }, keys.UnprotectedWindows, ""},
		"Linux":                    {change: func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Linux} }},
		"hostNetwork":              {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, keys.UnprotectedHostNetwork, "hostNetwork"},
		"hostPID":                  {func(p *corev1.Pod) { p.Spec.HostPID = true }, keys.UnprotectedHostPID, "hostPID"},
		"hostIPC":                  {func(p *corev1.Pod) { p.Spec.HostIPC = true }, keys.UnprotectedHostIPC, "hostIPC"},
		"hostUsers is false":       {func(p *corev1.Pod) { p.Spec.HostUsers = new(false) }, keys.UnprotectedUserNamespace, "hostUsers"},
		"hostUsers is true":        {change: func(p *corev1.Pod) { p.Spec.HostUsers = new(true) }},
		"shareProcessNamespace":    {func(p *corev1.Pod) { p.Spec.ShareProcessNamespace = new(true) }, keys.UnprotectedSharedProcesses, "shareProcessNamespace"},
		"processes are not shared": {change: func(p *corev1.Pod) { p.Spec.ShareProcessNamespace = new(false) }},
		"a raw block device": {func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "disk", DevicePath: "/dev/xvda"}}
		}, keys.UnprotectedBlockDevice, "/dev/xvda"},
		"a GPU":                       {limits("nvidia.com/gpu", "cpu"), keys.UnprotectedDevice, `container "app" has nvidia.com/gpu`},
		"a part of a GPU":             {limits("nvidia.com/mig-1g.5gb"), keys.UnprotectedDevice, "nvidia.com/mig-1g.5gb"},
		"two kinds":                   {limits("rdma/hca", "amd.com/gpu"), keys.UnprotectedDevice, "amd.com/gpu and rdma/hca"},
		"processor and memory":        {change: limits("cpu", "memory", "ephemeral-storage", "hugepages-2Mi")},
		"a resource that is a number": {change: limits("example.com/licences")},
		"a resource claim": {func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "card"}}
		}, keys.UnprotectedResourceClaim, `"card"`},
		"nothing but a proxy": {func(p *corev1.Pod) { p.Spec.Containers[0].Name = "istio-proxy" }, keys.UnprotectedNothingSelected, ""},
		"a proxy with a GPU": {change: func(p *corev1.Pod) {
			limits("nvidia.com/gpu")(p)
			p.Spec.Containers[0].Name = "linkerd-proxy"
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "app"})
		}},
		"an init container with a GPU that ends": {change: func(p *corev1.Pod) {
			limits("nvidia.com/gpu")(p)
			p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, []corev1.Container{{Name: "main"}}
		}},
		"a sidecar with a GPU": {func(p *corev1.Pod) {
			limits("nvidia.com/gpu")(p)
			p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, []corev1.Container{{Name: "main"}}
			p.Spec.InitContainers[0].RestartPolicy = &always
		}, keys.UnprotectedDevice, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}
			test.change(pod)
			reason, message := Obstacle(pod, nil)
			if reason != test.want || !strings.Contains(message, test.says) || (reason == "") != (message == "") {
				t.Errorf("it says %q, %q; want %q", reason, message, test.want)
			}
			if reason != "" && !slices.Contains(Reasons, reason) {
				t.Errorf("%s is not among the Reasons", reason)
			}
		})
	}
}
