package agent

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// hookRun is a hook that was run in the container app.
func hookRun(phase capture.HookPhase, number int, why string) capture.HookRun {
	r := capture.HookRun{Phase: phase, Container: "app", ContainerID: "app-id", Number: number, State: capture.HookSucceeded}
	if why != "" {
		r.State, r.Message = capture.HookFailed, why
	}
	return r
}

// eventsOf returns what was told by events so far.
func (b *bench) eventsOf() (told []string) {
	for {
		select {
		case event := <-b.Recorder.(*events.FakeRecorder).Events:
			told = append(told, event)
		default:
			return told
		}
	}
}

func TestACheckpointTellsOfItsHooks(t *testing.T) {
	pre := hookRun(capture.PreCheckpoint, 1, "exit code 3: no")
	for what, test := range map[string]struct {
		state        capture.State
		reason       capture.Reason // for a capture that failed
		runs         []capture.HookRun
		status       *v1alpha1.CheckpointHookStatus
		says, failed string // in the condition Captured, and in events
	}{
		"none": {state: capture.Complete, says: "safe in the bucket"},
		"all have succeeded": {
			state: capture.Complete, runs: []capture.HookRun{hookRun(capture.PreCheckpoint, 1, "")}, says: "safe in the bucket",
			status: &v1alpha1.CheckpointHookStatus{Attempted: 1},
		},
		"some have failed": {
			state: capture.Complete, runs: []capture.HookRun{pre, hookRun(capture.PreCheckpoint, 2, ""), hookRun(capture.PostCheckpoint, 1, "late")},
			status: &v1alpha1.CheckpointHookStatus{Attempted: 3, Failed: 2}, failed: pre.String(),
			says: `safe in the bucket; hook 1 of preCheckpoint in container "app" failed: exit code 3: no, and 1 more did`,
		},
		"one has broken the capture off": {
			state: capture.Failed, reason: capture.ReasonHookFailed, runs: []capture.HookRun{pre}, failed: "not captured: " + pre.String(),
			status: &v1alpha1.CheckpointHookStatus{Attempted: 1, Failed: 1}, says: pre.String(),
		},
		"the capture has failed by something else": {
			state: capture.Failed, reason: capture.ReasonNoSpace, runs: []capture.HookRun{pre}, failed: pre.String(),
			status: &v1alpha1.CheckpointHookStatus{Attempted: 1, Failed: 1}, says: "full; " + pre.String(),
		},
	} {
		t.Run(what, func(t *testing.T) {
			pod := newPod("a")
			b := noted(t, pod)
			dir := b.captured(pod, "1", test.state)
			record, err := capture.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			record.Hooks = test.runs
			switch test.reason {
			case "":
			case capture.ReasonHookFailed:
				record.Failure = &capture.Failure{Reason: test.reason, Message: pre.String()}
			default:
				record.Failure = &capture.Failure{Reason: test.reason, Message: "full"}
			}
			if err := record.Write(dir); err != nil {
				t.Fatal(err)
			}
			b.look(dir)
			c := b.checkpoint("a-a-uid")
			if diff := cmp.Diff(test.status, c.Status.Hooks); diff != "" {
				t.Errorf("status (-want +got)\n%s", diff)
			}
			status, reason := metav1.ConditionTrue, v1alpha1.StateCompleted
			if test.reason != "" {
				status, reason = metav1.ConditionFalse, string(test.reason)
			}
			is(t, c, v1alpha1.CheckpointCaptured, status, reason, test.says)
			told := strings.Join(b.eventsOf(), "\n")
			if want := "Warning HookFailed " + test.failed; test.failed != "" && !strings.Contains(told, want) || test.failed == "" && strings.Contains(told, want) {
				t.Errorf("it tells\n%s\nwant %q", told, want)
			}
		})
	}
}

// A restored pod is looked at until its hooks have been run; then it says which have failed, once.
func TestARestoredPodTellsOfItsHooks(t *testing.T) {
	pod := newPod("new")
	b := newBench(t, pod)
	settled := 0
	b.Settle = func(context.Context, string) error { settled++; return nil }
	d := capture.Decision{Action: capture.Restore, Checkpoint: "c", Containers: []string{"app"}}
	if err := b.Node.Decide(string(pod.UID), d); err != nil {
		t.Fatal(err)
	}
	restored := result("app", capture.Restored)
	restored.ContainerID = "app-id"
	plan := capture.HookPlan{PostRestore: []capture.Command{{Words: []string{"x"}, Timeout: time.Second}}}
	if err := capture.WriteJSON(b.Node.ResultFile(string(pod.UID), "app"), restored); err != nil {
		t.Fatal(err)
	}
	if err := capture.WriteJSON(b.Node.HookPlanFile(string(pod.UID)), plan); err != nil {
		t.Fatal(err)
	}
	look := func() (again bool, message string) {
		t.Helper()
		next, err := b.report(t.Context(), pod, &d)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			t.Fatal(err)
		}
		c := podspec.Condition(pod, keys.Restored)
		if c == nil || c.Status != corev1.ConditionTrue {
			t.Fatalf("it says %+v", c)
		}
		return next.RequeueAfter > 0, c.Message
	}
	b.now = time.Now()
	if again, message := look(); !again || settled != 0 || strings.Contains(message, "hook") {
		t.Errorf("while they are to be run it says %q, is looked at again: %t, and was settled %d times", message, again, settled)
	}
	b.now = b.now.Add(time.Minute)
	if again, _ := look(); !again || settled != 1 {
		t.Errorf("when nobody runs them it is looked at again: %t, and was settled %d times", again, settled)
	}
	report := capture.HookReport{Runs: []capture.HookRun{hookRun(capture.PostRestore, 1, "exit code 1")}, Done: []string{"app-id"}}
	if err := report.Write(b.Node.RestoreHooksFile(string(pod.UID))); err != nil {
		t.Fatal(err)
	}
	b.eventsOf()
	for range 2 {
		if again, message := look(); again || !strings.HasSuffix(message, `; hook 1 of postRestore in container "app" failed: exit code 1`) {
			t.Errorf("when they were run it says %q, and is looked at again: %t", message, again)
		}
	}
	if told := strings.Join(b.eventsOf(), "\n"); strings.Count(told, "Warning HookFailed hook 1 of postRestore") != 1 {
		t.Errorf("it tells\n%s", told)
	}
}

func TestWhichHooksAreRunBehindARestore(t *testing.T) {
	policy := &v1alpha1.RestorePolicy{}
	policy.Spec.Hooks = &v1alpha1.RestoreHooks{PostRestore: []v1alpha1.Hook{{Exec: v1alpha1.HookExec{Command: []string{"policy"}}}}}
	for what, test := range map[string]struct {
		effective string
		policy    *v1alpha1.RestorePolicy
		want      []string
	}{
		"neither says":       {effective: `{"schemaVersion":1}`},
		"the policy's":       {effective: `{"schemaVersion":1}`, policy: policy, want: []string{"policy"}},
		"the pod's":          {effective: `{"schemaVersion":1,"postRestore":[{"words":["pod"],"timeout":1}]}`, policy: policy, want: []string{"pod"}},
		"the pod wants none": {effective: `{"schemaVersion":1,"postRestore":[]}`, policy: policy},
		"another policy's":   {effective: `{"schemaVersion":1}`, policy: &v1alpha1.RestorePolicy{}},
	} {
		pod := newPod("a", func(p *corev1.Pod) { p.Annotations = map[string]string{keys.Effective: test.effective} })
		var got []string
		for _, c := range postRestoreOf(pod, test.policy) {
			got = append(got, c.Words...)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
}
