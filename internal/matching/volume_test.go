package matching

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// storing has a pod keep its states in a volume.
func storing(kind, source string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Annotations[keys.Effective] = `{"schemaVersion":1,"storageVolume":{"name":"data","kind":"` + kind + `","source":"` + source + `","mounts":{"app":"/data"}}}`
	}
}

func keptIn(kind v1alpha1.VolumeKind, source string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		c.Status.Volume = &v1alpha1.CheckpointVolume{Name: "data", Kind: kind, Source: source}
	}
}

func TestAStateInAVolumeServesWhoHasTheVolume(t *testing.T) {
	elsewhere := func(p *corev1.Pod) { p.Spec.NodeName = "worker-2" }
	for name, test := range map[string]struct {
		pod  []func(*corev1.Pod)
		kept func(*v1alpha1.Checkpoint)
		here bool
		says string
	}{
		"it has it":                    {pod: []func(*corev1.Pod){storing("PersistentVolumeClaim", "states")}, kept: keptIn("PersistentVolumeClaim", "states")},
		"it has it on another node":    {pod: []func(*corev1.Pod){storing("NFS", "files:/x"), elsewhere}, kept: keptIn("NFS", "files:/x")},
		"it has it as its node has it": {pod: []func(*corev1.Pod){storing("HostPath", "/srv")}, kept: keptIn("HostPath", "/srv")},
		"it has another": {pod: []func(*corev1.Pod){storing("PersistentVolumeClaim", "others")}, kept: keptIn("PersistentVolumeClaim", "states"),
			says: `it is kept in volume "data" (PersistentVolumeClaim states), and the pod keeps its states in volume "data" (PersistentVolumeClaim others)`},
		"it has none": {kept: keptIn("PersistentVolumeClaim", "states"), says: "and the pod has no memverge.ai/checkpoint-storage-volume"},
		"its node has another": {pod: []func(*corev1.Pod){storing("HostPath", "/srv"), elsewhere}, kept: keptIn("HostPath", "/srv"),
			says: "and that is a folder of node worker-1; this is node worker-2"},
		"it has another, and its node a copy": {here: true, kept: keptIn("PersistentVolumeClaim", "states")},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod("b", test.pod...)
			checkpoint := of(newPod("a"), time.Minute, test.kept)
			got := Choose(Facts{
				Pod: pod, Own: lineage.Of(pod), Checkpoints: []v1alpha1.Checkpoint{checkpoint}, Now: testNow,
				Here: func(*v1alpha1.Checkpoint) bool { return test.here },
			})
			if test.says == "" && (got.Claim == nil || got.Claim.Name != checkpoint.Name) {
				t.Errorf("the choice is %+v", got)
			}
			if test.says != "" && (got.Cold != keys.ColdOtherVolume || !strings.Contains(got.Message, test.says)) {
				t.Errorf("the choice is %+v", got)
			}
		})
	}
}
