package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Reasons are all that Obstacle gives.
var Reasons = []string{
	keys.UnprotectedMirrorPod, keys.UnprotectedWindows, keys.UnprotectedOtherRuntimeClass, keys.UnprotectedHostNetwork, keys.UnprotectedHostPID,
	keys.UnprotectedHostIPC, keys.UnprotectedUserNamespace, keys.UnprotectedSharedProcesses, keys.UnprotectedBlockDevice, keys.UnprotectedDevice,
	keys.UnprotectedResourceClaim, keys.UnprotectedNothingSelected,
}

// Obstacle says why a pod can never be captured, as far as its spec shows it: a reason of keys.Unprotected…, and what its user can do. Without
// an obstacle both are empty. The selection is that of its CheckpointPolicy.
func Obstacle(pod *corev1.Pod, selection *v1alpha1.ContainerSelection) (reason, message string) {
	if reason, message = ofPod(pod); reason != "" {
		return reason, message
	}
	selected := Selected(pod, selection)
	if len(selected) == 0 && selection != nil {
		return keys.UnprotectedNothingSelected, fmt.Sprintf("its CheckpointPolicy, or %s, selects none of its containers, which are %s; change "+
			"that, or set %s to \"false\"", keys.CheckpointContainers, NamesOf(Lasting(pod)), keys.CheckpointMode)
	}
	if len(selected) == 0 {
		return keys.UnprotectedNothingSelected, "all its containers are proxies, which are not captured; set " + keys.CheckpointMode + ` to "false"`
	}
	for _, c := range selected {
		if reason, message = ofContainer(c); reason != "" {
			return reason, message
		}
	}
	return "", ""
}

// NamesOf is a list of containers for a person.
func NamesOf(containers []*corev1.Container) string {
	names := make([]string, 0, len(containers))
	for _, c := range containers {
		names = append(names, fmt.Sprintf("%q", c.Name))
	}
	return strings.Join(names, ", ")
}

// ofPod looks at what concerns the pod as a whole.
func ofPod(pod *corev1.Pod) (reason, message string) {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	s := pod.Spec
	class := s.RuntimeClassName
	switch {
	case mirror:
		return keys.UnprotectedMirrorPod, "it comes from a file on its node, which no RuntimeClass reaches; make it by a Deployment or a DaemonSet"
	case s.OS != nil && s.OS.Name == corev1.Windows, s.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows):
		return keys.UnprotectedWindows, "it runs on Windows; CRIU dumps Linux processes alone"
	case class != nil && !keys.IsRuntimeClass(*class):
		return keys.UnprotectedOtherRuntimeClass, fmt.Sprintf(
			"it has the RuntimeClass %[1]s; only pods that name none can be captured, or one as %[2]s-%[1]s where there is that", *class, keys.RuntimeClass)
	case s.HostNetwork:
		return keys.UnprotectedHostNetwork, "it uses its node's network, whose connections stay behind; set hostNetwork to false, and use hostPort or a Service"
	case s.HostPID:
		return keys.UnprotectedHostPID, "its processes have numbers of its node, which are taken elsewhere; set hostPID to false"
	case s.HostIPC:
		return keys.UnprotectedHostIPC, "its shared memory is its node's, which others use as well; set hostIPC to false"
	case s.HostUsers != nil && !*s.HostUsers:
		return keys.UnprotectedUserNamespace, "it has a user namespace, whose owners of files differ from node to node; leave hostUsers away"
	case s.ShareProcessNamespace != nil && *s.ShareProcessNamespace:
		return keys.UnprotectedSharedProcesses, "its containers see each other's processes, so that none can be dumped alone; set shareProcessNamespace to false"
	}
	return "", ""
}

// ofContainer looks at what a container that is captured has of its node's hardware.
func ofContainer(c *corev1.Container) (reason, message string) {
	if len(c.VolumeDevices) > 0 {
		return keys.UnprotectedBlockDevice, fmt.Sprintf("container %q has the raw block device %s, whose state in the kernel cannot be dumped; "+
			"use a volume with a file system", c.Name, c.VolumeDevices[0].DevicePath)
	}
	if claims := c.Resources.Claims; len(claims) > 0 {
		return keys.UnprotectedResourceClaim, fmt.Sprintf("container %q has the devices of the resource claim %q, which CRIU cannot dump", c.Name, claims[0].Name)
	}
	var devices []string
	for _, list := range []corev1.ResourceList{c.Resources.Limits, c.Resources.Requests} {
		for name, quantity := range list {
			if isDevice(string(name)) && !quantity.IsZero() && !slices.Contains(devices, string(name)) {
				devices = append(devices, string(name))
			}
		}
	}
	if len(devices) > 0 {
		slices.Sort(devices)
		return keys.UnprotectedDevice, fmt.Sprintf("container %q has %s, whose memory CRIU cannot dump; have the program save its own state",
			c.Name, strings.Join(devices, " and "))
	}
	return "", ""
}

// deviceDomains and deviceNames are extended resources that are known to be devices with a state of their own. Others may be mere numbers, such as
// licences; whether a process has a device open is seen on the node.
var (
	deviceDomains = []string{
		"nvidia.com", "amd.com", "gpu.intel.com", "habana.ai", "aws.amazon.com", "furiosa.ai", "rebellions.ai", "tenstorrent.com", "qualcomm.com",
		"fpga.intel.com", "dsa.intel.com", "qat.intel.com", "vpu.intel.com", "sgx.intel.com", "rdma", "mellanox.com", "devices.kubevirt.io",
		"xilinx.com", "huawei.com", "cambricon.com", "metax-tech.com", "mthreads.com", "iluvatar.ai", "kunlunxin.com", "enflame.com",
	}
	deviceNames = []string{"google.com/tpu", "cloud-tpus.google.com", "microsoft.com/directx", "squat.ai/fuse", "intel.com/gpu"}
)

func isDevice(resource string) bool {
	domain, _, extended := strings.Cut(resource, "/")
	return extended && slices.Contains(deviceDomains, domain) || slices.Contains(deviceNames, resource)
}
