package settings

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// storing is a pod with volumes of all kinds of which two can keep its states, in the container app.
func storing(name string) *corev1.Pod {
	pod := podOf(nil, values{keys.CheckpointStorageVolume: name})
	claim := func(readOnly bool) corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data-p", ReadOnly: readOnly}}
	}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "data", VolumeSource: claim(false)},
		{Name: "sealed", VolumeSource: claim(true)},
		{Name: "shared", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "files", Path: "/export"}}},
		{Name: "node", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/states"}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "own", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
		{Name: "driver", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "secrets"}}},
	}
	for i := range pod.Spec.Volumes {
		v := pod.Spec.Volumes[i].Name
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: v, MountPath: "/" + v + "/"})
	}
	return pod
}

func keptIn(pod *corev1.Pod, namespace Namespace) (*capture.StorageVolume, []string, error) {
	s, err := Resolve(pod, namespace)
	if err != nil {
		return nil, s.Warnings, err
	}
	kept, warning, err := s.KeepIn(pod, podspec.Selected(pod, s.Selection(nil)))
	if warning != "" {
		s.Warnings = append(s.Warnings, warning)
	}
	return kept, s.Warnings, err
}

func TestStorageVolumes(t *testing.T) {
	always, owner := corev1.ContainerRestartPolicyAlways, func(kind string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: "o", UID: "u", Controller: new(true)}}
		}
	}
	mounted := map[string]string{"app": "/data"}
	const where = "annotation memverge.ai/checkpoint-storage-volume is "
	const may = "; it may be a persistentVolumeClaim, hostPath or nfs volume, which outlives the pod"
	const first = `it may be a volume that container "app", the first that is captured, mounts to write, without subPath`
	for name, test := range map[string]struct {
		volume string
		change func(*corev1.Pod)
		want   *capture.StorageVolume
		refuse string
	}{
		"a claim": {volume: "data", want: &capture.StorageVolume{
			Name: "data", Kind: "PersistentVolumeClaim", Source: "data-p", Mounts: mounted, Line: "Pod/p"}},
		"a folder of the node": {volume: "node", want: &capture.StorageVolume{
			Name: "node", Kind: "HostPath", Source: "/srv/states", Mounts: map[string]string{"app": "/node"}, Line: "Pod/p"}},
		"a file server": {volume: "shared", want: &capture.StorageVolume{
			Name: "shared", Kind: "NFS", Source: "files:/export", Mounts: map[string]string{"app": "/shared"}, Line: "Pod/p"}},
		"of a StatefulSet": {volume: "data", change: owner("StatefulSet"), want: &capture.StorageVolume{
			Name: "data", Kind: "PersistentVolumeClaim", Source: "data-p", Mounts: mounted, Line: "StatefulSet/o/p"}},
		"of a Deployment, whose pods have no place": {volume: "data", change: owner("ReplicaSet"), want: &capture.StorageVolume{
			Name: "data", Kind: "PersistentVolumeClaim", Source: "data-p", Mounts: mounted}},
		"in two containers": {volume: "data", change: func(p *corev1.Pod) {
			p.Spec.Containers[1].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/logs"}}
		}, want: &capture.StorageVolume{
			Name: "data", Kind: "PersistentVolumeClaim", Source: "data-p", Mounts: map[string]string{"app": "/data", "log": "/logs"}, Line: "Pod/p"}},
		"one that there is not": {volume: "date",
			refuse: where + `"date"; it may be the name of a volume of the pod: "data", "sealed", "shared", "node", "scratch", "own", "driver"`},
		"none at all": {volume: "data", change: func(p *corev1.Pod) { p.Spec.Volumes = nil },
			refuse: where + `"data"; it may be the name of a volume of the pod, which has none`},
		"an emptyDir":                      {volume: "scratch", refuse: where + `"scratch", a volume of the kind emptyDir` + may},
		"a claim that goes with the pod":   {volume: "own", refuse: where + `"own", a volume of the kind ephemeral` + may},
		"one of a driver, inline":          {volume: "driver", refuse: where + `"driver", a volume of the kind csi` + may},
		"a claim that nobody may write to": {volume: "sealed", refuse: where + `"sealed", which is read-only` + may + ", and that may be written to"},
		"mounted to read": {volume: "data", change: func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts[0].ReadOnly = true },
			refuse: first},
		"mounted in part": {volume: "data", change: func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts[0].SubPath = "a" },
			refuse: first},
		"mounted in part, by a variable": {volume: "data", change: func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts[0].SubPathExpr = "$(A)" },
			refuse: first},
		"mounted in the second container alone": {volume: "data", change: func(p *corev1.Pod) {
			p.Spec.Containers[0], p.Spec.Containers[1] = p.Spec.Containers[1], p.Spec.Containers[0]
		}, refuse: `container "log", the first that is captured`},
		"not mounted in a sidecar, which starts first": {volume: "data", change: func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "side", RestartPolicy: &always}}
		}, refuse: `container "side", the first that is captured`},
		"mounted first of what is captured": {volume: "data", change: func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "side", RestartPolicy: &always}}
			p.Annotations[keys.CheckpointContainers] = "app"
		}, want: &capture.StorageVolume{Name: "data", Kind: "PersistentVolumeClaim", Source: "data-p", Mounts: mounted, Line: "Pod/p"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := storing(test.volume)
			if test.change != nil {
				test.change(pod)
			}
			got, warnings, err := keptIn(pod, Namespace{})
			if test.refuse != "" && (err == nil || !strings.Contains(err.Error(), test.refuse)) {
				t.Errorf("it is refused as %v", err)
			}
			if test.refuse == "" && err != nil || len(warnings) > 0 {
				t.Errorf("it says %v, %q", err, warnings)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// A Namespace speaks for many pods: one that has no such volume is made, and its states go to a bucket.
func TestAStorageVolumeOfTheNamespace(t *testing.T) {
	for name, test := range map[string]struct {
		volume string
		change func(*corev1.Pod)
		kept   bool
	}{
		"is had":                          {volume: "data", kept: true},
		"there is not":                    {volume: "other"},
		"is of another kind":              {volume: "scratch"},
		"is not in a captured container":  {volume: "data", change: func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts = nil }},
		"the pod knows better about that": {volume: "data", change: func(p *corev1.Pod) { p.Annotations[keys.CheckpointStorageVolume] = "node" }, kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := storing("")
			delete(pod.Annotations, keys.CheckpointStorageVolume)
			if test.change != nil {
				test.change(pod)
			}
			kept, warnings, err := keptIn(pod, Namespace{Name: "ns", Labels: values{keys.CheckpointStorageVolume: test.volume}})
			if err != nil || (kept != nil) != test.kept {
				t.Errorf("%v, %+v", err, kept)
			}
			if test.kept != (len(warnings) == 0) || len(warnings) > 0 && !strings.HasSuffix(warnings[0], "; it does not count") {
				t.Errorf("the warnings are %q", warnings)
			}
		})
	}
}
