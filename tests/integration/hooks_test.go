package integration

import (
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// Hooks of keys that mean nothing are refused where a user writes them, also while the manager is down: here it was never up.
func TestBadHooksAreRefusedWhereTheyAreWritten(t *testing.T) {
	ns := namespace(t)
	awaitServiceAccount(t, ns)
	deployed := func(annotations map[string]string) error {
		of := template(nil)
		of.Annotations = annotations
		_, err := shared.Client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Selector: selector, Template: of}}, dryRun)
		return err
	}
	lab.Eventually(t, 30*time.Second, "the policy is in force", func() error {
		if deployed(map[string]string{keys.PreCheckpointHookOnError: "x"}) == nil {
			return errors.New("a bad annotation was taken")
		}
		return nil
	})
	const (
		may = `; it may be a JSON array of words, as ["sh", "-c", "sync"], one word, or [] for none`
		how = `; it may be a duration from 1s to 5m, as 30s`
	)
	for what, test := range map[string]struct{ key, value, refused string }{
		"one word":              {key: keys.PreCheckpointHook, value: "/bin/sync"},
		"an array":              {key: keys.PostCheckpointHook, value: ` [ "sh", "-c", "echo \"x\" ", "" ] `},
		"an array of nothing":   {key: keys.PostRestoreHook, value: "[]"},
		"several words":         {keys.PreCheckpointHook, "sh -c sync", `annotation memverge.ai/pre-checkpoint-hook is "sh -c sync"` + may},
		"nothing":               {keys.PostCheckpointHook, "", `annotation memverge.ai/post-checkpoint-hook is ""` + may},
		"an array that is torn": {keys.PostRestoreHook, `["sh"`, `annotation memverge.ai/post-restore-hook is "["sh""` + may},
		"one without a program": {keys.PostRestoreHook, `[""]`, `annotation memverge.ai/post-restore-hook is "[""]"` + may},
		"one of numbers":        {keys.PostRestoreHook, `[1]`, `annotation memverge.ai/post-restore-hook is "[1]"` + may},
		"a time":                {key: keys.PreCheckpointHookTimeout, value: "1m30s"},
		"too short a time":      {keys.PreCheckpointHookTimeout, "999ms", `annotation memverge.ai/pre-checkpoint-hook-timeout is "999ms"` + how},
		"too long a time":       {keys.PostCheckpointHookTimeout, "301s", `annotation memverge.ai/post-checkpoint-hook-timeout is "301s"` + how},
		"a number":              {keys.PostRestoreHookTimeout, "30", `annotation memverge.ai/post-restore-hook-timeout is "30"` + how},
		"a container":           {key: keys.PreCheckpointHookContainer, value: "app"},
		"no container": {
			keys.PreCheckpointHookContainer, " ", `annotation memverge.ai/pre-checkpoint-hook-container is " "; it may be the name of a container`,
		},
		"an onError": {key: keys.PostRestoreHookOnError, value: "Fail"},
		"one that there is not": {
			keys.PostRestoreHookOnError, "fail", `annotation memverge.ai/post-restore-hook-on-error is "fail"; it may be "Continue" or "Fail"`,
		},
	} {
		t.Run(what, func(t *testing.T) {
			checkAnswer(t, deployed(map[string]string{test.key: test.value}), test.refused)
		})
	}
	pod := template(nil)
	pod.Name, pod.Spec.AutomountServiceAccountToken = "web", new(false)
	for container, refused := range map[string]string{
		"app": "",
		"db": `annotation memverge.ai/pre-checkpoint-hook-container is "db"; the pod has no container "db" that runs as long as it does; ` +
			`it may name "app"`,
	} {
		pod.Annotations = map[string]string{keys.PreCheckpointHookContainer: container}
		_, err := shared.Client.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}, dryRun)
		checkAnswer(t, err, refused)
	}
}

func TestHooksHaveDefaults(t *testing.T) {
	policies := client.CheckpointV1alpha1().CheckpointPolicies(namespace(t))
	made := create(t, policies, newCheckpointPolicy, func(p *v1alpha1.CheckpointPolicy) {
		p.Spec.Hooks = hooks(func(h *v1alpha1.Hook) { h.OnError, h.Timeout = "", nil })
	})
	if h := made.Spec.Hooks.PreCheckpoint[0]; h.OnError != v1alpha1.HookContinue || h.Timeout == nil || h.Timeout.Duration != v1alpha1.DefaultHookTimeout {
		t.Errorf("it is %+v", h)
	}
}

func TestACheckpointSaysWhatBecameOfItsHooks(t *testing.T) {
	ns := namespace(t)
	name := create(t, client.CheckpointV1alpha1().Checkpoints(ns), newCheckpoint, nil).Name
	write(t, ns, name, keys.PublishFields, apply.CheckpointStatus().WithHooks(apply.CheckpointHookStatus().WithAttempted(3).WithFailed(0)))
	made, err := client.CheckpointV1alpha1().Checkpoints(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if h := made.Status.Hooks; h == nil || h.Attempted != 3 || h.Failed != 0 {
		t.Errorf("it says %+v", h)
	}
}
