package admission

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/settings"
)

// storing is a pod that keeps its states in a claim.
func storing(p *corev1.Pod) {
	p.Annotations = map[string]string{keys.CheckpointStorageVolume: "data"}
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "states"}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
}

func TestTheStorageVolumeIsASetting(t *testing.T) {
	got, _ := admit(t, labelled(storing))
	want := &capture.StorageVolume{
		Name: "data", Kind: "PersistentVolumeClaim", Source: "states", Mounts: map[string]string{"app": "/data"}, Line: "Pod/p",
	}
	if diff := cmp.Diff(want, got.StorageVolume); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAPodWithoutItsStorageVolumeIsRefused(t *testing.T) {
	err := admitIn(labelled(func(p *corev1.Pod) {
		storing(p)
		p.Spec.Containers[0].VolumeMounts = nil
	}), settings.Namespace{}, nil)
	if err == nil || !strings.Contains(err.Error(), `container "app", the first that is captured`) {
		t.Errorf("it says %v", err)
	}
}

func TestStatesThatAreNotEncryptedAreWarnedAbout(t *testing.T) {
	location := func(encrypted bool) client.Object {
		l := &v1alpha1.CheckpointStorageLocation{
			ObjectMeta: metav1.ObjectMeta{Name: "safe"}, Spec: v1alpha1.CheckpointStorageLocationSpec{Role: v1alpha1.RoleDefault},
		}
		if encrypted {
			l.Spec.Encryption = &v1alpha1.LocationEncryption{SecretName: "keys"}
		}
		return l
	}
	const want = `the states of this pod are kept in volume "data" (PersistentVolumeClaim states), and not encrypted`
	for name, test := range map[string]struct {
		change     func(*corev1.Pod)
		location   client.Object
		unreadable error
		warns      string
	}{
		"where a bucket would have them encrypted": {change: storing, location: location(true), warns: want},
		"where it would not":                       {change: storing, location: location(false)},
		"where there is none":                      {change: storing},
		"of a pod without a storage volume":        {location: location(true)},
		"that nobody can say":                      {change: storing, location: location(true), unreadable: errors.New("no cache"), warns: "the CheckpointPolicies"},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := json.Marshal(labelled(test.change))
			if err != nil {
				t.Fatal(err)
			}
			var there []client.Object
			if test.location != nil {
				there = append(there, test.location)
			}
			answer := askOf(t, string(raw), test.unreadable, there...)
			warned := strings.Join(answer.Warnings, "; ")
			if !answer.Allowed || (warned == "") != (test.warns == "") || !strings.HasPrefix(warned, test.warns) {
				t.Errorf("allowed: %t, it warns %q", answer.Allowed, warned)
			}
		})
	}
}
