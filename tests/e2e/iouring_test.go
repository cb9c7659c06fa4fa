package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

func TestIOUringIsWithheldFromLabelledContainersUnlessTheyOptOut(t *testing.T) {
	c := labelled(t)
	yes, no, user := true, false, int64(1000)
	runtimeDefault := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	unconfined := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
	const withheld = "ENOSYS"
	for what, test := range map[string]struct {
		security corev1.SecurityContext
		allow    bool
		want     string
	}{
		"unconfined":          {security: corev1.SecurityContext{SeccompProfile: unconfined}, want: withheld},
		"unconfined non-root": {security: corev1.SecurityContext{SeccompProfile: unconfined, RunAsUser: &user}, want: withheld},
		"privileged":          {security: corev1.SecurityContext{Privileged: &yes}, want: withheld},
		"runtime default":     {security: corev1.SecurityContext{SeccompProfile: runtimeDefault}, want: withheld},
		"restricted": {security: corev1.SecurityContext{
			SeccompProfile: runtimeDefault, RunAsUser: &user, RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no,
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}, want: withheld},
		"opted out":                  {security: corev1.SecurityContext{SeccompProfile: unconfined}, allow: true, want: "a ring"},
		"opted out, runtime default": {security: corev1.SecurityContext{SeccompProfile: runtimeDefault}, allow: true, want: "EPERM"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				template.Spec.Containers[0].SecurityContext = &test.security
				if test.allow {
					template.Annotations = map[string]string{keys.IOUring: keys.IOUringAllow}
				}
			})
			before := waitForCount(t, c, pod, 1)
			if got, err := ask(t.Context(), c, pod, "io_uring", nil); err != nil || got != test.want {
				t.Errorf("io_uring_setup answers %q, %v; want %q", got, err, test.want)
			}
			if said := w.protection(t, pod); strings.Contains(said, keys.CheckpointableIOUringAllowed) != test.allow {
				t.Errorf("opted out: %t, it says %s", test.allow, said)
			}
			w.deletePod(t, pod)
			next := w.running(t, pod)
			w.goesOn(t, next, before, nil)
			if got, err := ask(t.Context(), c, next, "io_uring", nil); err != nil || got != test.want {
				t.Errorf("after the restore io_uring_setup answers %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// protection waits for the pod's condition and an event that repeats it, and returns both.
func (w *workload) protection(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	var found *corev1.PodCondition
	lab.Eventually(t, 30*time.Second, "pod "+pod.Name+" says whether it is protected, and an event does", func() error {
		now, err := w.c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for i := range now.Status.Conditions {
			if c := &now.Status.Conditions[i]; c.Type == keys.Checkpointable {
				found = c
			}
		}
		if found == nil || !strings.Contains(w.events(t, pod), found.Message) {
			return fmt.Errorf("its condition is %+v, its events are\n%s", found, w.events(t, pod))
		}
		return nil
	})
	return found.Reason + ": " + found.Message
}
