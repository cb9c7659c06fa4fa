package checkpoint

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// A state that is kept in a volume waits for no location; one that the volume did not take does.
func TestWhatNeedsNoLocation(t *testing.T) {
	storing := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{
		keys.Effective: `{"schemaVersion":1,"storageVolume":{"name":"data","kind":"HostPath","source":"/srv","mounts":{"app":"/data"}}}`,
	}}}
	for name, test := range map[string]struct {
		status v1alpha1.CheckpointStatus
		pod    *corev1.Pod
		want   bool
	}{
		"it is in a volume":             {status: v1alpha1.CheckpointStatus{Volume: &v1alpha1.CheckpointVolume{Name: "data"}}, want: true},
		"it is going to be":             {pod: storing, want: true},
		"the volume did not take it":    {pod: storing, status: v1alpha1.CheckpointStatus{Conditions: conditions("Captured", "True", "Completed")}},
		"the pod has no storage volume": {pod: ended(0, corev1.PodRunning)},
		"nothing is known of the pod":   {},
	} {
		t.Run(name, func(t *testing.T) {
			if got := needsNoLocation(facts{checkpoint: &v1alpha1.Checkpoint{Status: test.status}, pod: test.pod}); got != test.want {
				t.Errorf("it is %t", got)
			}
		})
	}
}
