package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// hookLog is where the hooks of these tests write, in a volume that is captured.
const hookLog = "/scratch/hooks"

// notes is a hook that writes a line.
func notes(path, line string) v1alpha1.Hook {
	return v1alpha1.Hook{Exec: v1alpha1.HookExec{Command: []string{"/testapp", "append", path, line}}}
}

// hooked writes the policies of a workload's pods.
func (w *workload) hooked(t *testing.T, around v1alpha1.CheckpointHooks, behind *v1alpha1.RestoreHooks) {
	t.Helper()
	wanted := &v1alpha1.CheckpointPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: policyName}, Spec: v1alpha1.CheckpointPolicySpec{Selector: &metav1.LabelSelector{}, Hooks: &around},
	}
	if _, err := operator.Checkpoints.CheckpointV1alpha1().CheckpointPolicies(w.ns).Create(t.Context(), wanted, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.policy(t, v1alpha1.RestorePolicySpec{Hooks: behind})
	time.Sleep(2 * time.Second) // the webhook reads policies from a cache
}

// logs waits until the hooks of a pod have written these lines.
func (w *workload) logs(t *testing.T, pod *corev1.Pod, lines ...string) {
	t.Helper()
	want := strings.Join(lines, "\n") + "\n"
	lab.Eventually(t, time.Minute, "the hooks of pod "+pod.Name+" have run", func() error {
		got, err := ask(t.Context(), w.c, pod, "file"+hookLog, nil)
		if err == nil && got != want {
			err = fmt.Errorf("they wrote %q, want %q", got, want)
		}
		return err
	})
}

// count checks what a Checkpoint says of its hooks.
func hookCount(t *testing.T, c *v1alpha1.Checkpoint, attempted, failed int32) {
	t.Helper()
	if h := c.Status.Hooks; h == nil || h.Attempted != attempted || h.Failed != failed {
		t.Errorf("Checkpoint %s says of its hooks %+v, want %d of %d failed", c.Name, h, failed, attempted)
	}
}

// Around a live capture the first hooks run before it, and the others when the pod goes on. Those are run in the pod that is restored from it as well: there
// is nothing of them in the state.
func TestHooksAroundALiveCapture(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, job, func(template *corev1.PodTemplateSpec) { onWorker1(template) })
	w.hooked(t, v1alpha1.CheckpointHooks{
		PreCheckpoint:  []v1alpha1.Hook{notes(hookLog, "pre 1"), notes(hookLog, "pre 2")},
		PostCheckpoint: []v1alpha1.Hook{notes(hookLog, "post")},
	}, &v1alpha1.RestoreHooks{PostRestore: []v1alpha1.Hook{notes(hookLog, "restored")}})
	w.create(t)
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 3)
	w.byHand(t, "first", pod, nil)
	made := w.named(t, "first", isComplete)
	hookCount(t, made, 3, 0)
	w.logs(t, pod, "pre 1", "pre 2", "post")
	undisturbed(t, before, w.countOf(t, pod))
	asks("exit", "code", "7")(t, w, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	w.logs(t, next, "pre 1", "pre 2", "post", "restored")
}

// Before a last capture hooks run in what is left of the pod, and behind it in the pod that is restored. A key goes before a policy.
func TestHooksAroundALastCapture(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Annotations = map[string]string{
			keys.PreCheckpointHook: `["/testapp", "append", "` + hookLog + `", "by key"]`, keys.PreCheckpointHookContainer: "app",
		}
	})
	w.hooked(t, v1alpha1.CheckpointHooks{
		PreCheckpoint: []v1alpha1.Hook{notes(hookLog, "by policy")}, PostCheckpoint: []v1alpha1.Hook{notes(hookLog, "post")},
	}, &v1alpha1.RestoreHooks{PostRestore: []v1alpha1.Hook{{Exec: v1alpha1.HookExec{Command: []string{"/testapp", "nothing"}}}, notes(hookLog, "restored")}})
	w.create(t)
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 3)
	w.deletePod(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	w.logs(t, next, "by key", "post", "restored")
	hookCount(t, w.checkpoint(t, pod, "is complete", isComplete), 1, 0)
	const failed = `hook 1 of postRestore in container "app" failed: exit code 1: `
	w.tells(t, next, "HookFailed: "+failed)
	lab.Eventually(t, 30*time.Second, "its condition says so", func() error {
		if c := w.restored(t, next); c.Status != corev1.ConditionTrue || !strings.Contains(c.Message, failed) {
			return fmt.Errorf("it says %+v", c)
		}
		return nil
	})
}

// A hook that breaks the capture off has the pod end as without us, behind what releases it.
func TestAHookThatFailsCanKeepAPodFromBeingCaptured(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	out := "/var/lib/out-hooks"
	w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		cannotBeCaptured(template, out)
		template.Spec.Containers[0].Args = []string{"serve", "-end-log=/out/log"} // it could be
	})
	fails := v1alpha1.Hook{Exec: v1alpha1.HookExec{Command: []string{"/testapp", "nothing"}}, OnError: v1alpha1.HookFail}
	w.hooked(t, v1alpha1.CheckpointHooks{
		PreCheckpoint: []v1alpha1.Hook{fails, notes("/out/log", "not run")}, PostCheckpoint: []v1alpha1.Hook{notes("/out/log", "post")},
	}, nil)
	w.create(t)
	pod := w.running(t, nil)
	waitForCount(t, c, pod, 3)
	if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, pod)
	if got := c.OnNode(t, pod.Spec.NodeName, "cat "+out+"/log"); got != "post\nterm began\nterm ended\n" {
		t.Errorf("it left %q", got)
	}
	failed := w.checkpoint(t, pod, "has failed", is(v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.ReasonHookFailed))
	hookCount(t, failed, 2, 1)
	w.tells(t, pod, `HookFailed: not captured: hook 1 of preCheckpoint in container "app" failed: exit code 1: `)
}

// A hook that hangs is ended at its timeout, with its process, and the capture goes on without it.
func TestAHookThatHangsIsKilled(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, plainPod, onWorker1)
	hangs := v1alpha1.Hook{Exec: v1alpha1.HookExec{Command: []string{"/testapp", "sleep", "hook"}}, Timeout: &metav1.Duration{Duration: 2 * time.Second}}
	w.hooked(t, v1alpha1.CheckpointHooks{PreCheckpoint: []v1alpha1.Hook{hangs, notes(hookLog, "next")}}, nil)
	w.create(t)
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 3)
	const failed = `hook 1 of preCheckpoint in container "app" failed: it was killed after 2s`
	w.byHand(t, "live", pod, nil)
	made := w.named(t, "live", isComplete)
	hookCount(t, made, 2, 1)
	w.tells(t, pod, failed)
	if left := c.OnNode(t, "worker-1", "pgrep -f '^/testapp sleep hook' || true"); left != "" {
		t.Errorf("there is left %q", left)
	}
	undisturbed(t, before, w.countOf(t, pod))
	w.deletePod(t, pod)
	w.goesOn(t, w.running(t, pod), before, nil)
	last := w.checkpoint(t, pod, "is complete", isComplete)
	hookCount(t, last, 2, 1)
	for _, condition := range last.Status.Conditions {
		if condition.Type == v1alpha1.CheckpointCaptured && !strings.HasSuffix(condition.Message, "; "+failed) {
			t.Errorf("it says %q", condition.Message)
		}
	}
}
