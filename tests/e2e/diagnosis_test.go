package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// A pod that asks for it leaves behind, on its node and in the bucket, what a person needs who looks for the cause of a failure.
func TestAPodLeavesWhatIsNeededForDiagnosis(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, func(template *corev1.PodTemplateSpec) {
		template.Annotations = map[string]string{keys.CheckpointDiagnosis: keys.True}
	})
	before := waitForCount(t, c, pod, 3)
	w.deletePod(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	captured := fmt.Sprintf("%s_%s_%.8s_1", w.ns, pod.Name, pod.UID)
	restored := fmt.Sprintf("%s_%s_%.8s_restore", w.ns, next.Name, next.UID)
	lab.Eventually(t, 2*time.Minute, "images and logs are kept, and logs sent", func() error {
		for name, place := range map[string]*corev1.Pod{captured: pod, restored: next} {
			found := c.OnNode(t, place.Spec.NodeName, "cd /var/lib/checkpoint/diagnosis/"+name+" 2>/dev/null && find . -type f || true")
			log, image := "dump.log", "./containers/app/criu/inventory.img"
			if name == restored {
				log, image = "restore.log", "./state/containers/app/criu/inventory.img"
			}
			if !strings.Contains(found, log) || !strings.Contains(found, image) {
				return fmt.Errorf("node %s has of %s:\n%s", place.Spec.NodeName, name, found)
			}
			sent, err := operator.Objects(t.Context(), keys.DiagnosisRoot+"/"+w.ns+"/"+name)
			if err != nil {
				return err
			}
			if len(sent) != 1 {
				return fmt.Errorf("the bucket has of %s: %v", name, sent)
			}
		}
		return nil
	})
}
