package agent

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/storage"
)

// failing is the policy of all pods of the namespace: it keeps those from starting that cannot be restored.
func failing() *v1alpha1.RestorePolicy {
	return &v1alpha1.RestorePolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine", UID: "mine"},
		Spec:       v1alpha1.RestorePolicySpec{Selector: &metav1.LabelSelector{}, Fallback: v1alpha1.FallbackFail},
	}
}

// successor is a pod that waits at the gate.
func successor() *corev1.Pod {
	return newPod("new", func(p *corev1.Pod) {
		p.Status.Phase, p.Spec.Containers = corev1.PodPending, []corev1.Container{{Name: "app"}}
	})
}

// uploaded is a bench on which pod "a" has been captured and uploaded, and its bytes are in the bucket alone.
func uploaded(t *testing.T, objects ...client.Object) *bench {
	t.Helper()
	pod := newPod("a")
	b := newBench(t, objects...)
	if err := b.takeNote(pod); err != nil {
		t.Fatal(err)
	}
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	if err := b.remove(dir); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) reconcile(pod *corev1.Pod) ctrl.Result {
	b.t.Helper()
	result, err := b.Reconcile(b.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(pod)})
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// restored returns the condition of a pod as the API has it.
func (b *bench) restored(pod *corev1.Pod) *corev1.PodCondition {
	b.t.Helper()
	now := &corev1.Pod{}
	if err := b.Client.Get(b.t.Context(), client.ObjectKeyFromObject(pod), now); err != nil {
		b.t.Fatal(err)
	}
	if c := podspec.Condition(now, keys.Restored); c != nil {
		return c
	}
	return &corev1.PodCondition{}
}

// edit changes an object in the API.
func edit[T client.Object](b *bench, object T, change func(T)) {
	b.t.Helper()
	err := b.Client.Get(b.t.Context(), client.ObjectKeyFromObject(object), object)
	if err == nil {
		change(object)
		err = b.Client.Update(b.t.Context(), object)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestAPodWhosePolicySaysFailIsNotDecidedForUntilThatChanges(t *testing.T) {
	for what, test := range map[string]struct {
		change func(*bench, *corev1.Pod)
		want   capture.Decision
	}{
		"the policy takes an older one": {
			func(b *bench, _ *corev1.Pod) {
				edit(b, failing(), func(p *v1alpha1.RestorePolicy) { p.Spec.MaxAge = &metav1.Duration{Duration: 100 * time.Hour} })
			},
			capture.Decision{Action: capture.Restore, Checkpoint: "a-a-uid", Policy: "mine", Fallback: capture.Refuse},
		},
		"the policy has it start cold": {
			func(b *bench, _ *corev1.Pod) {
				edit(b, failing(), func(p *v1alpha1.RestorePolicy) { p.Spec.Fallback = v1alpha1.FallbackColdStart })
			},
			capture.Decision{Action: capture.Cold, Reason: keys.ColdCheckpointTooOld, Policy: "mine"},
		},
		"the label has it start cold": {
			func(b *bench, pod *corev1.Pod) {
				edit(b, pod, func(p *corev1.Pod) { p.Labels[keys.RestoreMode] = keys.False })
			},
			capture.Decision{Action: capture.Cold, Reason: keys.ColdRestoreDisabled},
		},
	} {
		t.Run(what, func(t *testing.T) {
			pod := successor()
			b := uploaded(t, failing(), pod)
			b.now = b.now.Add(48 * time.Hour)
			for range 2 {
				if result := b.reconcile(pod); result.RequeueAfter != refusedInterval {
					t.Errorf("it is looked at again after %s", result.RequeueAfter)
				}
			}
			want := "not restored, and RestorePolicy mine says Fail: CheckpointTooOld, Checkpoint a-a-uid is older than 24h0m0s"
			if said, _ := b.Node.ReadHint("new-uid", capture.WaitingHint); said != want {
				t.Errorf("the gate says %q", said)
			}
			if c := b.restored(pod); c.Status != corev1.ConditionFalse || c.Reason != keys.RestoreRefused || c.Message != want {
				t.Errorf("the pod says %+v", c)
			}
			if policy, there := b.Node.ReadHint("new-uid", capture.FailingHint); !there || policy != "mine" {
				t.Errorf("for a time without an agent it leaves %q, %t", policy, there)
			}
			if d, err := b.Node.Decision("new-uid"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it decided %+v, %v", d, err)
			}
			test.change(b, pod)
			b.reconcile(pod)
			d, err := b.Node.Decision("new-uid")
			if err != nil || d.Action != test.want.Action || d.Reason != test.want.Reason || d.Checkpoint != test.want.Checkpoint ||
				d.Policy != test.want.Policy || d.Fallback != test.want.Fallback {
				t.Errorf("it decided %+v, %v", d, err)
			}
			for _, hint := range []string{capture.WaitingHint, capture.FailingHint} {
				if text, there := b.Node.ReadHint("new-uid", hint); there {
					t.Errorf("the hint %s still says %q", hint, text)
				}
			}
		})
	}
}

func TestAStateThatCannotBeFetchedStaysClaimedByAPodThatMustNotStartCold(t *testing.T) {
	pod := successor()
	b := uploaded(t, failing(), pod)
	kept := b.store.objects
	b.store.objects = map[string][]byte{}
	for range 2 {
		if result := b.reconcile(pod); result.RequeueAfter != unfetchedInterval {
			t.Errorf("it is looked at again after %s", result.RequeueAfter)
		}
	}
	if c := b.restored(pod); c.Reason != keys.RestoreRefused || !strings.Contains(c.Message, "says Fail: RestoreFailed, fetch Checkpoint a-a-uid") {
		t.Errorf("the pod says %+v", c)
	}
	if claim := b.checkpoint("a-a-uid").Status.Claim; claim == nil || claim.PodUID != pod.UID || claim.Phase != v1alpha1.ClaimClaimed {
		t.Errorf("the claim is %+v", claim)
	}
	b.store.objects = kept
	b.reconcile(pod)
	if d, err := b.Node.Decision("new-uid"); err != nil || d.Action != capture.Restore || d.Fallback != capture.Refuse {
		t.Errorf("with its bytes back in the bucket it decided %+v, %v", d, err)
	}
}

func TestWhenThePolicyNamesAnotherTheFirstIsReleased(t *testing.T) {
	pod, b2 := successor(), newPod("b")
	b := uploaded(t, failing(), pod)
	if err := b.takeNote(b2); err != nil {
		t.Fatal(err)
	}
	dir := b.captured(b2, "1", capture.Complete)
	b.look(dir)
	if err := b.remove(dir); err != nil {
		t.Fatal(err)
	}
	b.store.broken = storage.ErrUnavailable
	naming := func(name string) {
		edit(b, failing(), func(p *v1alpha1.RestorePolicy) { p.Spec.Source, p.Spec.CheckpointName = v1alpha1.RestoreNamed, name })
	}
	holder := func(name string) string {
		if claim := b.checkpoint(name).Status.Claim; claim != nil {
			return claim.PodName
		}
		return ""
	}
	for _, step := range []struct{ name, other string }{{"a-a-uid", "b-b-uid"}, {"b-b-uid", "a-a-uid"}} {
		naming(step.name)
		b.reconcile(pod)
		if holder(step.name) != "new" || holder(step.other) != "" {
			t.Errorf("%s is claimed by %q, %s by %q", step.name, holder(step.name), step.other, holder(step.other))
		}
	}
	b.store.broken = nil
	b.reconcile(pod)
	if d, err := b.Node.Decision("new-uid"); err != nil || d.Checkpoint != "b-b-uid" {
		t.Errorf("it decided %+v, %v", d, err)
	}
	record, err := capture.Read(b.stateOf(pod, b.checkpoint("b-b-uid")))
	if err != nil || record.Pod.Name != "b" {
		t.Errorf("it fetched %+v, %v", record, err)
	}
}

// refusedByTheRuntime is a bench with a pod whose restore has failed on the node.
func refusedByTheRuntime(t *testing.T, pod *corev1.Pod, changes ...func(*capture.Result)) *bench {
	t.Helper()
	b := uploaded(t, failing(), pod)
	b.reconcile(pod)
	r := result("app", capture.RestoreFailed, append([]func(*capture.Result){because("", "no memory")}, changes...)...)
	if err := capture.WriteJSON(b.Node.ResultFile("new-uid", "app"), r); err != nil {
		t.Fatal(err)
	}
	if result := b.reconcile(pod); result.RequeueAfter != refusedInterval {
		t.Errorf("it is looked at again after %s", result.RequeueAfter)
	}
	want := `not restored, and RestorePolicy mine says Fail: RestoreFailed, container "app", Checkpoint a-a-uid: no memory`
	if c := b.restored(pod); c.Status != corev1.ConditionFalse || c.Reason != keys.RestoreRefused || c.Message != want {
		t.Errorf("the pod says %+v", c)
	}
	return b
}

func TestARestoreThatFailedOnTheNodeIsKeptFromAColdStartUntilThePolicyChanges(t *testing.T) {
	coldByPolicy := func(b *bench) {
		edit(b, failing(), func(p *v1alpha1.RestorePolicy) { p.Spec.Fallback = v1alpha1.FallbackColdStart })
	}
	for what, test := range map[string]struct {
		change   func(*bench)
		consumed bool
		claim    v1alpha1.ClaimPhase
	}{
		"the policy says so":                    {change: coldByPolicy},
		"the policy says so, and something ran": {change: coldByPolicy, consumed: true, claim: v1alpha1.ClaimConsumed},
		"the policy is gone": {change: func(b *bench) {
			if err := b.Client.Delete(b.t.Context(), failing()); err != nil {
				b.t.Fatal(err)
			}
		}},
		"the label says so": {change: func(b *bench) {
			edit(b, successor(), func(p *corev1.Pod) { p.Labels[keys.RestoreMode] = keys.False })
		}},
	} {
		t.Run(what, func(t *testing.T) {
			pod := successor()
			b := refusedByTheRuntime(t, pod, func(r *capture.Result) { r.Consumed = test.consumed })
			if d, err := b.Node.Decision("new-uid"); err != nil || d.Fallback != capture.Refuse || !isThere(b.statesOf(pod)) {
				t.Errorf("before, the decision is %+v, %v", d, err)
			}
			test.change(b)
			b.reconcile(pod)
			d, err := b.Node.Decision("new-uid")
			if err != nil || d.Action != capture.Restore || d.Fallback != capture.StartCold {
				t.Errorf("then the decision is %+v, %v", d, err)
			}
			b.reconcile(pod)
			if c := b.restored(pod); c.Status != corev1.ConditionFalse || c.Reason != keys.ColdRestoreFailed {
				t.Errorf("the pod says %+v", c)
			}
			phase := v1alpha1.ClaimPhase("")
			if claim := b.checkpoint("a-a-uid").Status.Claim; claim != nil {
				phase = claim.Phase
			}
			if phase != test.claim {
				t.Errorf("the claim is %q, want %q", phase, test.claim)
			}
		})
	}
}

func TestAClaimOutlastsARefusalAndEndsWithThePod(t *testing.T) {
	pod := successor()
	b := refusedByTheRuntime(t, pod)
	if err := capture.WriteJSON(b.Node.ResultFile("new-uid", "app"), result("app", capture.Attempted, ranNot)); err != nil { // kubelet called again
		t.Fatal(err)
	}
	b.reconcile(pod)
	if c := b.restored(pod); c.Reason != keys.RestoreRefused {
		t.Errorf("while it is tried again the pod says %+v", c)
	}
	if claim := b.checkpoint("a-a-uid").Status.Claim; claim == nil || claim.Phase != v1alpha1.ClaimClaimed {
		t.Errorf("the claim is %+v", claim)
	}
	if err := capture.WriteJSON(b.Node.ResultFile("new-uid", "app"), result("app", capture.RestoreFailed)); err != nil {
		t.Fatal(err)
	}
	now := &corev1.Pod{}
	if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), now); err != nil {
		t.Fatal(err)
	}
	now.Status.Phase = corev1.PodFailed // with restartPolicy Never
	if err := b.Client.Status().Update(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	b.reconcile(pod)
	if claim := b.checkpoint("a-a-uid").Status.Claim; claim != nil || isThere(b.statesOf(pod)) {
		t.Errorf("the pod has failed, and the claim is %+v; the image is there: %t", claim, isThere(b.statesOf(pod)))
	}
	if c := b.restored(pod); c.Reason != keys.RestoreRefused {
		t.Errorf("in the end the pod says %+v", c)
	}
}

func TestADecisionIsNotChangedWhileAContainerIsRestored(t *testing.T) {
	pod := successor()
	b := refusedByTheRuntime(t, pod)
	file, err := os.Create(b.Node.RestoreLock("new-uid"))
	if err == nil {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	edit(b, failing(), func(p *v1alpha1.RestorePolicy) { p.Spec.Mode = v1alpha1.RestoreDisabled })
	b.reconcile(pod)
	if d, err := b.Node.Decision("new-uid"); err != nil || d.Fallback != capture.Refuse {
		t.Errorf("the decision is %+v, %v", d, err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	b.reconcile(pod)
	if d, err := b.Node.Decision("new-uid"); err != nil || d.Fallback != capture.StartCold {
		t.Errorf("the decision is %+v, %v", d, err)
	}
}

func TestWithoutItsCheckpointAPodNoLongerHasToBeRestored(t *testing.T) {
	pod := successor()
	b := refusedByTheRuntime(t, pod)
	c := b.checkpoint("a-a-uid")
	c.Finalizers = nil
	if err := errors.Join(b.Client.Update(t.Context(), c), client.IgnoreNotFound(b.Client.Delete(t.Context(), c))); err != nil {
		t.Fatal(err)
	}
	b.reconcile(pod)
	if d, err := b.Node.Decision("new-uid"); err != nil || d.Fallback != capture.StartCold {
		t.Errorf("the decision is %+v, %v", d, err)
	}
}

func TestAStateOfAContainerThatThePodLacksDoesNotFit(t *testing.T) {
	pod := successor()
	pod.Spec.Containers[0].Name = "renamed"
	b := uploaded(t, pod)
	record, err := b.fetch(t.Context(), pod, b.checkpoint("a-a-uid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := fits(pod, record); !isForGood(err) || !strings.Contains(err.Error(), `the container "app", which the pod has not`) {
		t.Errorf("it says %v", err)
	}
}
