package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// result is what the runtime says of a container, begun a minute ago.
func result(container string, o capture.Outcome, changes ...func(*capture.Result)) *capture.Result {
	r := &capture.Result{Container: container, Outcome: o, Consumed: o != capture.RestoreFailed, Started: testNow.Add(-time.Minute), Total: time.Second}
	for _, change := range changes {
		change(r)
	}
	return r
}

func because(reason, message string) func(*capture.Result) {
	return func(r *capture.Result) { r.Reason, r.Message = reason, message }
}

func longAgo(r *capture.Result) { r.Started = testNow.Add(-attemptPatience - time.Second) }

func TestAPodIsToldThatItsHookRunsAgain(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}, {Name: "side"}}}}
	if got := protection(pod).Message; got != protectedMessage {
		t.Errorf("without a hook it says %q", got)
	}
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}
	}
	want := protectedMessage + `; when it is restored, kubelet runs the postStart hook of container "app", "side" again`
	if got := protection(pod).Message; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

func TestJudge(t *testing.T) {
	restore := &capture.Decision{Action: capture.Restore, Checkpoint: "a-1", Containers: []string{"app", "side"}}
	for what, test := range map[string]struct {
		decision *capture.Decision // or restore
		results  []*capture.Result
		want     outcome
	}{
		"a cold decision": {
			decision: &capture.Decision{Action: capture.Cold, Reason: keys.ColdNoCheckpoint, Message: "there is none"},
			want:     outcome{done: true, status: corev1.ConditionFalse, reason: keys.ColdNoCheckpoint, message: "there is none"},
		},
		"a cold decision of the runtime's own": {
			decision: &capture.Decision{Action: capture.Cold, Reason: keys.ColdAgentUnavailable},
			want:     outcome{done: true, status: corev1.ConditionFalse, reason: keys.ColdAgentUnavailable, message: "started cold: AgentUnavailable"},
		},
		"both are restored": {
			results: []*capture.Result{result("app", capture.Restored), result("side", capture.Restored, func(r *capture.Result) { r.Total = 2 * time.Second })},
			want: outcome{
				done: true, consumed: true, status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint,
				message: "continues from Checkpoint a-1, restored in 2s",
			},
		},
		"nothing is said yet": {want: outcome{
			status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint, message: "continues from Checkpoint a-1, restored in 0s",
		}},
		"one is restored, the other is on its way": {
			results: []*capture.Result{result("app", capture.Restored), result("side", capture.Attempted)},
			want: outcome{
				consumed: true, status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint, message: "continues from Checkpoint a-1, restored in 1s",
			},
		},
		"the second fails after the first ran": {
			results: []*capture.Result{result("app", capture.Restored), result("side", capture.RestoreFailed, because("", "no memory"))},
			want: outcome{
				done: true, consumed: true, status: corev1.ConditionFalse, reason: keys.ColdRestoreFailed,
				message: `container "side" starts cold, Checkpoint a-1 was not restored: no memory`,
			},
		},
		"the first of two failures is told": {
			results: []*capture.Result{result("app", capture.RestoreFailed, because(keys.ColdSecurityContextMismatch, "it needs CAP_X")),
				result("side", capture.RestoreFailed, because("", "no memory"))},
			want: outcome{
				done: true, status: corev1.ConditionFalse, reason: keys.ColdSecurityContextMismatch,
				message: `container "app" starts cold, Checkpoint a-1 was not restored: it needs CAP_X`,
			},
		},
		"it was restored by a policy": {
			decision: &capture.Decision{Action: capture.Restore, Checkpoint: "a-1", Policy: "mine", Containers: []string{"app"}},
			results:  []*capture.Result{result("app", capture.Restored)},
			want: outcome{
				done: true, consumed: true, status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint,
				message: "continues from Checkpoint a-1 by RestorePolicy mine, restored in 1s",
			},
		},
		"a cold decision by a policy": {
			decision: &capture.Decision{Action: capture.Cold, Reason: keys.ColdNoCheckpoint, Message: "there is none", Policy: "mine"},
			want:     outcome{done: true, status: corev1.ConditionFalse, reason: keys.ColdNoCheckpoint, message: "there is none (RestorePolicy mine)"},
		},
		"a cold decision that names the policy": {
			decision: &capture.Decision{Action: capture.Cold, Reason: keys.ColdRestoreDisabled, Message: "RestorePolicy mine says so", Policy: "mine"},
			want:     outcome{done: true, status: corev1.ConditionFalse, reason: keys.ColdRestoreDisabled, message: "RestorePolicy mine says so"},
		},
		"the restore was cut off": {
			results: []*capture.Result{result("app", capture.Attempted, longAgo)},
			want: outcome{
				done: true, consumed: true, status: corev1.ConditionFalse, reason: keys.ColdRestoreFailed,
				message: `container "app": the restore of Checkpoint a-1 was cut off`,
			},
		},
	} {
		t.Run(what, func(t *testing.T) {
			d := test.decision
			if d == nil {
				d = restore
			}
			if diff := cmp.Diff(test.want, judge(d, test.results, testNow), cmp.AllowUnexported(outcome{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestJudgeWhereAColdStartIsRefused(t *testing.T) {
	failing := &capture.Decision{
		Action: capture.Restore, Checkpoint: "a-1", Policy: "mine", Fallback: capture.Refuse, Containers: []string{"app", "side"},
	}
	follows := func(name string) func(*capture.Result) { return func(r *capture.Result) { r.Follows = name } }
	for what, test := range map[string]struct {
		results []*capture.Result
		want    outcome
	}{
		"it is refused, and what follows is not told": {
			results: []*capture.Result{result("side", capture.RestoreFailed, follows("app")),
				result("app", capture.RestoreFailed, because(keys.ColdSecurityContextMismatch, "it needs CAP_X"))},
			want: outcome{
				refused: true, status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint,
				message: `not restored, and RestorePolicy mine says Fail: SecurityContextMismatch, container "app", Checkpoint a-1: it needs CAP_X`,
			},
		},
		"it is refused after the other ran": {
			results: []*capture.Result{result("app", capture.Restored), result("side", capture.RestoreFailed, because("", "no memory"))},
			want: outcome{
				refused: true, consumed: true, status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint,
				message: `not restored, and RestorePolicy mine says Fail: RestoreFailed, container "side", Checkpoint a-1: no memory`,
			},
		},
		"it is refused, as the restore was cut off": {
			results: []*capture.Result{result("app", capture.Attempted, longAgo, ranNot)},
			want: outcome{
				refused: true, status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint,
				message: `not restored, and RestorePolicy mine says Fail: RestoreFailed, container "app": the restore of Checkpoint a-1 was cut off`,
			},
		},
		"the one that was refused is tried again": {
			results: []*capture.Result{result("side", capture.RestoreFailed, follows("app")), result("app", capture.Attempted, ranNot)},
			want: outcome{
				status: corev1.ConditionTrue, reason: keys.RestoredFromCheckpoint, message: "continues from Checkpoint a-1 by RestorePolicy mine, restored in 0s",
			},
		},
	} {
		t.Run(what, func(t *testing.T) {
			if diff := cmp.Diff(test.want, judge(failing, test.results, testNow), cmp.AllowUnexported(outcome{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAContainerThatWasStartedAnewSinceIsTold(t *testing.T) {
	d := &capture.Decision{Action: capture.Restore, Checkpoint: "a-1"}
	status := func(name, id string, restarts int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, ContainerID: "containerd://" + id, RestartCount: restarts}
	}
	for what, test := range map[string]struct {
		status corev1.PodStatus
		want   string
	}{
		"none was": {status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{status("app", "id-app", 0), status("side", "id-side", 0)}}},
		"kubelet has not told of the restored ones yet": {status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app"}}}},
		"another container was":                         {status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{status("proxy", "new", 1)}}},
		"one was": {
			status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{status("app", "new", 1), status("side", "id-side", 0)}},
			want:   `continued from Checkpoint a-1; since then kubelet has started container "app" anew, from scratch`,
		},
		"both were, one of them a sidecar": {
			status: corev1.PodStatus{
				InitContainerStatuses: []corev1.ContainerStatus{status("side", "new", 2)}, ContainerStatuses: []corev1.ContainerStatus{status("app", "newer", 1)},
			},
			want: `continued from Checkpoint a-1; since then kubelet has started container "side", "app" anew, from scratch`,
		},
	} {
		t.Run(what, func(t *testing.T) {
			results := []*capture.Result{result("app", capture.Restored), result("side", capture.Restored)}
			for _, r := range results {
				r.ContainerID = "id-" + r.Container
			}
			if got := restarted(&corev1.Pod{Status: test.status}, d, results); got != test.want {
				t.Errorf("it says %q, want %q", got, test.want)
			}
		})
	}
}

func TestAReportSettlesTheClaim(t *testing.T) {
	results := func(o capture.Outcome, changes ...func(*capture.Result)) []*capture.Result {
		return []*capture.Result{result("app", o, changes...)}
	}
	for what, test := range map[string]struct {
		holder  string // of the claim; or the pod
		results []*capture.Result
		claim   v1alpha1.ClaimPhase // empty: there is none
		status  corev1.ConditionStatus
	}{
		"restored":                     {results: results(capture.Restored), claim: v1alpha1.ClaimConsumed, status: corev1.ConditionTrue},
		"on its way, and may have run": {results: results(capture.Attempted), claim: v1alpha1.ClaimConsumed},
		"not begun":                    {claim: v1alpha1.ClaimClaimed},
		"failed before anything ran":   {results: results(capture.RestoreFailed), status: corev1.ConditionFalse},
		"failed after something ran": {
			results: results(capture.RestoreFailed, ran), claim: v1alpha1.ClaimConsumed, status: corev1.ConditionFalse,
		},
		"cut off before anything ran": {
			results: results(capture.Attempted, longAgo, ranNot), status: corev1.ConditionFalse,
		},
		"failed, and another pod holds it": {
			holder: "other", results: results(capture.RestoreFailed), claim: v1alpha1.ClaimClaimed, status: corev1.ConditionFalse,
		},
	} {
		t.Run(what, func(t *testing.T) {
			pod := newPod("new")
			source, _ := lineage.TerminationCheckpoint(newPod("a"))
			b := newBench(t, pod, source)
			holder := pod
			if test.holder != "" {
				holder = newPod(test.holder)
			}
			if won, err := b.claim(t.Context(), holder, source.DeepCopy()); err != nil || !won {
				t.Fatalf("claim: %t, %v", won, err)
			}
			if err := b.noteClaim(t.Context(), pod, source); err != nil {
				t.Fatal(err)
			}
			if err := b.Node.Decide(string(pod.UID), capture.Decision{Action: capture.Restore, Checkpoint: source.Name, Containers: []string{"app"}}); err != nil {
				t.Fatal(err)
			}
			for _, r := range test.results {
				if err := capture.WriteJSON(b.Node.ResultFile(string(pod.UID), r.Container), r); err != nil {
					t.Fatal(err)
				}
			}
			decision, err := b.Node.Decision(string(pod.UID))
			if err != nil {
				t.Fatal(err)
			}
			again, err := b.report(t.Context(), pod, decision)
			if err != nil {
				t.Fatal(err)
			}
			if (again.RequeueAfter > 0) != (test.status == "") {
				t.Errorf("it is looked at again after %s", again.RequeueAfter)
			}
			phase := v1alpha1.ClaimPhase("")
			if claim := b.checkpoint(source.Name).Status.Claim; claim != nil {
				phase = claim.Phase
			}
			if phase != test.claim {
				t.Errorf("the claim is %q, want %q", phase, test.claim)
			}
			if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
				t.Fatal(err)
			}
			status := corev1.ConditionStatus("")
			if c := podspec.Condition(pod, keys.Restored); c != nil {
				status = c.Status
			}
			if c := podspec.Condition(pod, keys.Checkpointable); c == nil || c.Status != corev1.ConditionTrue || status != test.status {
				t.Errorf("Checkpointable is %v, Restored is %q, want %q", c, status, test.status)
			}
		})
	}
}

func ran(r *capture.Result) { r.Consumed = true }

func ranNot(r *capture.Result) { r.Consumed = false }

func TestWhatHasNotChangedIsNotToldAgain(t *testing.T) {
	pod := newPod("new")
	b := newBench(t, pod)
	if err := b.Node.Decide(string(pod.UID), capture.Decision{Action: capture.Cold, Reason: keys.ColdNoCheckpoint, Message: "none"}); err != nil {
		t.Fatal(err)
	}
	decision, err := b.Node.Decision(string(pod.UID))
	if err != nil {
		t.Fatal(err)
	}
	version := ""
	for range 2 {
		if _, err := b.report(t.Context(), pod, decision); err != nil {
			t.Fatal(err)
		}
		if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			t.Fatal(err)
		}
		if version != "" && pod.ResourceVersion != version {
			t.Error("it was written again")
		}
		version = pod.ResourceVersion
	}
}
