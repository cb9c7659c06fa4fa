package lineage

import (
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// runs is what counts of a container: what it executes, in what surroundings, and with what rights. Resources and probes do not: a controller that sizes
// pods changes the first from pod to pod, and a program does not notice the second.
type runs struct {
	Name, Image, WorkingDir string
	Command, Args           []string
	Env                     []corev1.EnvVar
	EnvFrom                 []corev1.EnvFromSource
	Mounts                  []corev1.VolumeMount
	Devices                 []corev1.VolumeDevice
	SecurityContext         *corev1.SecurityContext
}

// templateHash is the same for pods of the same template, whatever admission, scheduler, service-account plugin and kubelet add to each: proxies,
// node, tokens, RuntimeClass, grace period, tolerations, hooks, ephemeral containers.
func templateHash(pod *corev1.Pod) string {
	var containers []runs
	mounted := map[string]bool{}
	for _, c := range containersOf(pod) {
		r := runs{
			Name: c.Name, Image: c.Image, WorkingDir: c.WorkingDir, Command: orNil(c.Command), Args: orNil(c.Args), Env: orNil(c.Env), EnvFrom: orNil(c.EnvFrom),
			Mounts: orNil(slices.DeleteFunc(slices.Clone(c.VolumeMounts), isToken)), Devices: orNil(c.VolumeDevices), SecurityContext: c.SecurityContext,
		}
		if r.SecurityContext != nil && *r.SecurityContext == (corev1.SecurityContext{}) {
			r.SecurityContext = nil
		}
		for _, m := range r.Mounts {
			mounted[m.Name] = true
		}
		for _, d := range r.Devices {
			mounted[d.Name] = true
		}
		containers = append(containers, r)
	}
	volumes := orNil(slices.DeleteFunc(slices.Clone(pod.Spec.Volumes), func(v corev1.Volume) bool { return !mounted[v.Name] }))
	rights := pod.Spec.SecurityContext
	if rights == nil { // as the API server writes it
		rights = &corev1.PodSecurityContext{}
	}
	text, err := json.Marshal(struct {
		Containers []runs
		Volumes    []corev1.Volume
		Rights     *corev1.PodSecurityContext
	}{containers, volumes, rights})
	if err != nil { // no type in it can fail
		return ""
	}
	return hash(string(text))
}

// containersOf are those of the template: without proxies, which admission adds in whatever version it is, and without what prepares their way.
func containersOf(pod *corev1.Pod) []corev1.Container {
	return slices.DeleteFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return podspec.IsProxy(c.Name)
	})
}

// isToken tells whether a volume is mounted that is added to every pod, under another name each time.
func isToken(m corev1.VolumeMount) bool {
	return strings.HasPrefix(m.MountPath, "/var/run/secrets/kubernetes.io/serviceaccount")
}

// orNil returns nil for an empty list: as JSON they differ.
func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}
