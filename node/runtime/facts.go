package runtime

import "github.com/transparent-checkpoint/operator/internal/capture"

// facts are what the container runtime says of a container by the annotations of its OCI spec.
type facts struct {
	sandbox               bool
	container, sandboxID  string
	image                 string
	pod                   capture.Pod
	fromAContainerRuntime bool
}

// The annotations by which containerd's CRI says what a container is
// (https://github.com/containerd/containerd/blob/main/internal/cri/annotations/annotations.go), and those of CRI-O
// (https://github.com/cri-o/cri-o/blob/main/internal/annotations/annotations.go), which adds kubelet's labels, the names of the pod among them.
const (
	containerType    = "io.kubernetes.cri.container-type"
	containerName    = "io.kubernetes.cri.container-name"
	sandboxID        = "io.kubernetes.cri.sandbox-id"
	sandboxName      = "io.kubernetes.cri.sandbox-name"
	sandboxNamespace = "io.kubernetes.cri.sandbox-namespace"
	sandboxUID       = "io.kubernetes.cri.sandbox-uid"
	imageName        = "io.kubernetes.cri.image-name"

	crioContainerType = "io.kubernetes.cri-o.ContainerType"
	crioSandboxID     = "io.kubernetes.cri-o.SandboxID"
	crioImageName     = "io.kubernetes.cri-o.ImageName"
	labelContainer    = "io.kubernetes.container.name"
	labelPod          = "io.kubernetes.pod.name"
	labelNamespace    = "io.kubernetes.pod.namespace"
	labelUID          = "io.kubernetes.pod.uid"
)

// factsOf reads them. Those of CRI-O count only where its own are there: kubelet's labels alone could come from elsewhere. CRI-O shows all annotations of a
// pod, so that its author may have written containerd's beside them: such a container is nobody's, and is passed on.
func factsOf(a map[string]string) facts {
	switch isContainerd, isCRIO := a[containerType] != "", a[crioContainerType] != ""; {
	case isContainerd && isCRIO:
		return facts{}
	case !isCRIO:
		return facts{
			sandbox: a[containerType] == "sandbox", container: a[containerName], sandboxID: a[sandboxID], image: a[imageName],
			pod:                   capture.Pod{Namespace: a[sandboxNamespace], Name: a[sandboxName], UID: a[sandboxUID]},
			fromAContainerRuntime: a[sandboxUID] != "",
		}
	}
	return facts{
		sandbox: a[crioContainerType] == "sandbox", container: a[labelContainer], sandboxID: a[crioSandboxID], image: a[crioImageName],
		pod:                   capture.Pod{Namespace: a[labelNamespace], Name: a[labelPod], UID: a[labelUID]},
		fromAContainerRuntime: a[labelUID] != "",
	}
}
