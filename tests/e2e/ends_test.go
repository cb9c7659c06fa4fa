package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// asks has testapp do what ends it; nobody answers.
func asks(path, key, value string) func(*testing.T, *workload, *corev1.Pod) {
	return func(t *testing.T, w *workload, pod *corev1.Pod) {
		_, _ = ask(t.Context(), w.c, pod, path, map[string][]string{key: {value}})
	}
}

// killed ends the first process of a container from its node.
func killed(t *testing.T, w *workload, pod *corev1.Pod) {
	id := strings.TrimPrefix(pod.Status.ContainerStatuses[0].ContainerID, "containerd://")
	w.c.OnNode(t, pod.Spec.NodeName, "kill -KILL $(cat /run/containerd/io.containerd.runtime.v2.task/k8s.io/"+id+"/init.pid)")
}

// How a restored process ends, its pod says as of any other.
func TestARestoredProcessEndsAsAnyOther(t *testing.T) {
	for name, test := range map[string]struct {
		args   []string
		memory string // its limit
		end    func(*testing.T, *workload, *corev1.Pod)
		code   int32
		reason string
		policy corev1.RestartPolicy
	}{
		"with a code, for good":                {end: asks("exit", "code", "7"), code: 7, reason: "Error", policy: corev1.RestartPolicyNever},
		"with 0, for good":                     {end: asks("exit", "code", "0"), reason: "Completed", policy: corev1.RestartPolicyNever},
		"with a code, and is started anew":     {end: asks("exit", "code", "7"), code: 7, reason: "Error", policy: corev1.RestartPolicyOnFailure},
		"by KILL":                              {end: killed, code: 137, reason: "Error", policy: corev1.RestartPolicyNever},
		"by a signal that its parent tells of": {[]string{"parent", "serve"}, "", asks("raise", "signal", "15"), 143, "Error", corev1.RestartPolicyNever},
		"by the limit of its memory":           {nil, "64Mi", asks("grow", "mib", "200"), 137, "OOMKilled", corev1.RestartPolicyNever},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				template.Spec.RestartPolicy = test.policy
				app := &template.Spec.Containers[0]
				if test.args != nil {
					app.Args = test.args
				}
				if test.memory != "" {
					app.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(test.memory)}
				}
			})
			before := waitForCount(t, c, pod, 10)
			w.deletePod(t, pod)
			next := w.running(t, pod)
			w.goesOn(t, next, before, nil)
			test.end(t, w, next)
			lab.Eventually(t, time.Minute, "it has ended", func() error {
				now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), next.Name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				status := now.Status.ContainerStatuses[0]
				ended, restarts := status.State.Terminated, int32(0)
				if test.policy != corev1.RestartPolicyNever {
					ended, restarts = status.LastTerminationState.Terminated, 1
				}
				if ended == nil || ended.ExitCode != test.code || ended.Reason != test.reason || status.RestartCount != restarts {
					return fmt.Errorf("it is %s, its containers are %+v", now.Status.Phase, now.Status.ContainerStatuses)
				}
				return nil
			})
			if test.policy == corev1.RestartPolicyNever {
				return
			}
			w.saysRestarted(t, next)
		})
	}
}

// saysRestarted waits until a pod says that a container of it began from scratch.
func (w *workload) saysRestarted(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "the pod says that a container was started anew", func() error {
		if c := w.restored(t, pod); c.Status != corev1.ConditionFalse || c.Reason != keys.ColdRestarted {
			return fmt.Errorf("it says %+v", c)
		}
		return nil
	})
}
