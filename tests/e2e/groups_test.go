package e2e

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// A restored program sees of control groups what it saw before, under the name of its new one: on version 2 only its own, as the root. A privileged one
// sees those of its node, before and after. testapp, as every Go program, has a file of its group open.
func TestARestoredContainerSeesItsOwnControlGroups(t *testing.T) {
	for what, privileged := range map[string]bool{"by default": false, "privileged": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &privileged}
				template.Spec.Containers[0].Resources = limitsOf("500m", "100Mi")
			})
			before, saw := waitForCount(t, c, pod, 1), groupsSeenBy(t, c, pod)
			w.deletePod(t, pod)
			next := w.running(t, pod)
			w.goesOn(t, next, before, nil)
			if sees := groupsSeenBy(t, c, next); sees != saw {
				t.Errorf("before it saw\n%s\nnow it sees\n%s", saw, sees)
			}
		})
	}
}

// groupsSeenBy is what testapp finds in /proc of its own control groups and where they are mounted, without the names that are its pod's own.
func groupsSeenBy(t *testing.T, c *lab.Cluster, pod *corev1.Pod) string {
	t.Helper()
	now, err := c.Client.CoreV1().Pods(pod.Namespace).Get(t.Context(), pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, id, _ := strings.Cut(now.Status.ContainerStatuses[0].ContainerID, "://")
	uid := string(pod.UID)
	names := strings.NewReplacer(id, "CONTAINER", uid, "POD", strings.ReplaceAll(uid, "-", "_"), "POD")
	text := say(t, c, pod, "file/proc/self/cgroup")
	for line := range strings.Lines(say(t, c, pod, "file/proc/self/mountinfo")) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], "/sys/fs/cgroup") {
			text += fields[3] + " at " + fields[4] + "\n"
		}
	}
	return names.Replace(text)
}
