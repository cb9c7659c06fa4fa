package lineage

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// container changes the first container of a pod.
func container(change func(*corev1.Container)) func(*corev1.Pod) {
	return func(p *corev1.Pod) { change(&p.Spec.Containers[0]) }
}

// template is a pod with one of everything that counts.
func template(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := pod("a", plain)
	p.Spec.SecurityContext = &corev1.PodSecurityContext{}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		{Name: "unused", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	p.Spec.InitContainers = []corev1.Container{{Name: "prepare", Image: "prepare:1"}}
	c := &p.Spec.Containers[0]
	c.Command, c.Env = []string{"/app"}, []corev1.EnvVar{{Name: "A", Value: "1"}}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	for _, change := range changes {
		change(p)
	}
	return p
}

func TestWhatChangesATemplate(t *testing.T) {
	for what, change := range map[string]func(*corev1.Pod){
		"the image":             container(func(c *corev1.Container) { c.Image = "app:2" }),
		"the command":           container(func(c *corev1.Container) { c.Command = []string{"/other"} }),
		"the arguments":         args("other"),
		"a word of two":         args("ser", "ve"),
		"the working directory": container(func(c *corev1.Container) { c.WorkingDir = "/tmp" }),
		"a variable":            container(func(c *corev1.Container) { c.Env[0].Value = "2" }),
		"where variables come from": container(func(c *corev1.Container) {
			c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "a"}}}}
		}),
		"where a volume is mounted":       container(func(c *corev1.Container) { c.VolumeMounts[0].MountPath = "/other" }),
		"that it cannot be written":       container(func(c *corev1.Container) { c.VolumeMounts[0].ReadOnly = true }),
		"which claim a mounted volume is": func(p *corev1.Pod) { p.Spec.Volumes[0].PersistentVolumeClaim.ClaimName = "other" },
		"a device": container(func(c *corev1.Container) {
			c.VolumeDevices = []corev1.VolumeDevice{{Name: "data", DevicePath: "/dev/x"}}
		}),
		"the rights of a container": container(func(c *corev1.Container) { c.SecurityContext = &corev1.SecurityContext{RunAsUser: new(int64(7))} }),
		"the rights of the pod":     func(p *corev1.Pod) { p.Spec.SecurityContext.RunAsUser = new(int64(7)) },
		"an init container":         func(p *corev1.Pod) { p.Spec.InitContainers[0].Image = "prepare:2" },
		"one more container":        func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "b"}) },
	} {
		if templateHash(template(change)) == templateHash(template()) {
			t.Errorf("%s: it is the same template", what)
		}
	}
}

func TestWhatChangesNoTemplate(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	for what, change := range map[string]func(*corev1.Pod){
		"the token": func(p *corev1.Pod) {
			tokenMount("kube-api-access-x")(p)
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "kube-api-access-x"})
		},
		"name, UID and node": func(p *corev1.Pod) { p.Name, p.UID, p.Spec.NodeName = "b", "b", "worker-2" },
		"the RuntimeClass and the grace": func(p *corev1.Pod) {
			p.Spec.RuntimeClassName, p.Spec.TerminationGracePeriodSeconds = new("x"), new(int64(120))
		},
		"what an admission takes out": container(func(c *corev1.Container) { c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}} }),
		"tolerations, priority, service account": func(p *corev1.Pod) {
			p.Spec.Tolerations, p.Spec.Priority, p.Spec.ServiceAccountName = []corev1.Toleration{{Key: "x"}}, new(int32(3)), "default"
		},
		"resources, resized or set by a controller": container(func(c *corev1.Container) {
			c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1")}
		}),
		"defaults of the API server": func(p *corev1.Pod) {
			c := &p.Spec.Containers[0]
			c.TerminationMessagePath, c.TerminationMessagePolicy, c.ImagePullPolicy = "/dev/termination-log", "File", corev1.PullAlways
			p.Spec.RestartPolicy, p.Spec.DNSPolicy, p.Spec.SchedulerName = "Always", "ClusterFirst", "default-scheduler"
		},
		"no rights at all instead of empty ones": func(p *corev1.Pod) { p.Spec.SecurityContext = nil },
		"empty rights of a container":            container(func(c *corev1.Container) { c.SecurityContext = &corev1.SecurityContext{} }),
		"an empty list":                          container(func(c *corev1.Container) { c.EnvFrom = []corev1.EnvFromSource{} }),
		"the proxy of a service mesh": func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "istio-proxy", Image: "proxy:2"})
			p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "istio-init"})
		},
		"the proxy as a sidecar": func(p *corev1.Pod) {
			p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "linkerd-proxy", RestartPolicy: &always})
		},
		"a debug container": func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug"}}}
		},
		"a volume that nothing mounts": func(p *corev1.Pod) { p.Spec.Volumes = p.Spec.Volumes[:1] },
		"labels and annotations": func(p *corev1.Pod) {
			p.Labels["a"], p.Annotations = "b", map[string]string{"c": "d"}
		},
		"what kubelet says": func(p *corev1.Pod) { p.Status.Phase, p.Status.PodIP = corev1.PodRunning, "10.0.0.1" },
	} {
		if templateHash(template(change)) != templateHash(template()) {
			t.Errorf("%s: it is another template", what)
		}
	}
}
