package podspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestWhatAVolumeHoldsOutlivesThePodWhereItCanBeWrittenTo(t *testing.T) {
	claim := func(name string, readOnly bool) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name, ReadOnly: readOnly},
		}}
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Volumes: []corev1.Volume{
			claim("data", false), claim("models", true), claim("mounted-read-only", false), claim("unmounted", false),
			{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}},
			{Name: "own", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
			{Name: "node", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}},
		},
		InitContainers: []corev1.Container{{VolumeMounts: []corev1.VolumeMount{{Name: "node"}, {Name: "mounted-read-only", ReadOnly: true}}}},
		Containers: []corev1.Container{
			{VolumeMounts: []corev1.VolumeMount{{Name: "data", ReadOnly: true}, {Name: "models"}, {Name: "scratch"}, {Name: "settings"}, {Name: "own"}}},
			{VolumeMounts: []corev1.VolumeMount{{Name: "data"}}},
		},
	}}
	if diff := cmp.Diff([]string{"data", "node"}, LastingVolumes(pod)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
