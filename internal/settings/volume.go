package settings

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// Volume is a volume of a pod in which its states are to be kept.
type Volume struct {
	// Name is its name in the pod, and Kind and Source say which volume it is, as in capture.StorageVolume.
	Name, Kind, Source string

	asked written
}

// keeping are the kinds of volumes in which states can be kept, as a pod's spec names them.
const keeping = "a persistentVolumeClaim, hostPath or nfs volume, which outlives the pod"

// volume reads the name of the volume in which states are kept.
func volume(w written, pod *corev1.Pod) (*Volume, error) {
	var names []string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Name != w.text {
			names = append(names, fmt.Sprintf("%q", v.Name))
			continue
		}
		found := &Volume{Name: v.Name, asked: w}
		switch s := v.VolumeSource; {
		case s.PersistentVolumeClaim != nil && s.PersistentVolumeClaim.ReadOnly, s.NFS != nil && s.NFS.ReadOnly:
			return nil, fmt.Errorf("%s is %q, which is read-only; it may be %s, and that may be written to", w.where, w.text, keeping)
		case s.PersistentVolumeClaim != nil:
			found.Kind, found.Source = string(v1alpha1.VolumePersistentVolumeClaim), s.PersistentVolumeClaim.ClaimName
		case s.HostPath != nil:
			found.Kind, found.Source = string(v1alpha1.VolumeHostPath), s.HostPath.Path
		case s.NFS != nil:
			found.Kind, found.Source = string(v1alpha1.VolumeNFS), s.NFS.Server+":"+s.NFS.Path
		default:
			return nil, fmt.Errorf("%s is %q, a volume of the kind %s; it may be %s", w.where, w.text, kindOf(v), keeping)
		}
		return found, nil
	}
	if len(names) == 0 {
		return nil, w.wrong("the name of a volume of the pod, which has none")
	}
	return nil, w.wrong("the name of a volume of the pod: " + strings.Join(names, ", "))
}

// kindOf is the kind of a volume as it is named in a pod's spec, as far as a person is likely to ask for it.
func kindOf(v *corev1.Volume) string {
	switch s := v.VolumeSource; {
	case s.EmptyDir != nil:
		return "emptyDir"
	case s.Ephemeral != nil:
		return "ephemeral"
	case s.CSI != nil:
		return "csi"
	case s.ConfigMap != nil:
		return "configMap"
	case s.Secret != nil:
		return "secret"
	case s.Projected != nil:
		return "projected"
	case s.DownwardAPI != nil:
		return "downwardAPI"
	case s.Image != nil:
		return "image"
	}
	return "another one"
}

// keepIn says where the captured containers have the volume in which states are kept. They are in the order in which they start: the first has to have it,
// for with that one the restore begins, and what is mounted in none of a pod's containers kubelet does not mount at all.
func (v *Volume) keepIn(pod *corev1.Pod, selected []*corev1.Container) (*capture.StorageVolume, error) {
	kept := &capture.StorageVolume{Name: v.Name, Kind: v.Kind, Source: v.Source, Mounts: map[string]string{}, Line: lineOf(pod)}
	for _, c := range selected {
		if i := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.Name == v.Name && !m.ReadOnly && m.SubPath == "" && m.SubPathExpr == ""
		}); i >= 0 {
			kept.Mounts[c.Name] = path.Clean("/" + c.VolumeMounts[i].MountPath)
		}
	}
	if first := selected[0]; kept.Mounts[first.Name] == "" {
		return nil, fmt.Errorf("%s is %q; it may be a volume that container %q, the first that is captured, mounts to write, without subPath: kubelet "+
			"mounts a volume for containers that use it", v.asked.where, v.Name, first.Name)
	}
	return kept, nil
}

// KeepIn finds where the captured containers of a pod have its storage volume; nil when it has none. That none can be had is an error, but at a Namespace,
// whose mistakes keep no pod from being made: there it is a warning, and the states go to a bucket.
func (s Settings) KeepIn(pod *corev1.Pod, selected []*corev1.Container) (kept *capture.StorageVolume, warning string, err error) {
	if s.StorageVolume == nil || len(selected) == 0 {
		return nil, "", nil
	}
	kept, err = s.StorageVolume.keepIn(pod, selected)
	if err != nil && s.StorageVolume.asked.place.forAll {
		return nil, err.Error() + "; it does not count", nil
	}
	return kept, "", err
}

// lineOf is what pods have in common that take each other's place, where no other pod can; empty for others.
func lineOf(pod *corev1.Pod) string {
	switch own := lineage.Of(pod); {
	case own.Owner != nil && own.Identity != "":
		return own.Owner.Kind + "/" + own.Owner.Name + "/" + own.Identity
	case own.Owner == nil && pod.Name != "" && pod.GenerateName == "":
		return "Pod/" + pod.Name
	}
	return ""
}
