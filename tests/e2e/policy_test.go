package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// policyName is that of the policy that a test writes, for all pods of its namespace.
const policyName = "mine"

// policy writes that policy.
func (w *workload) policy(t *testing.T, spec v1alpha1.RestorePolicySpec) {
	t.Helper()
	spec.Selector = &metav1.LabelSelector{}
	wanted := &v1alpha1.RestorePolicy{ObjectMeta: metav1.ObjectMeta{Name: policyName}, Spec: spec}
	if _, err := operator.Checkpoints.CheckpointV1alpha1().RestorePolicies(w.ns).Create(t.Context(), wanted, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// changePolicy merges fields into its spec.
func (w *workload) changePolicy(t *testing.T, fields map[string]any) {
	t.Helper()
	policies := operator.Checkpoints.CheckpointV1alpha1().RestorePolicies(w.ns)
	patch := patchJSON(t, map[string]any{"spec": fields})
	if _, err := policies.Patch(t.Context(), policyName, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// isCold checks that a pod started cold for that reason, in a message with these parts.
func (w *workload) isCold(t *testing.T, pod *corev1.Pod, reason string, parts ...string) {
	t.Helper()
	c := w.restored(t, pod)
	if c.Status != corev1.ConditionFalse || c.Reason != reason {
		t.Errorf("pod %s says %+v, want %s", pod.Name, c, reason)
	}
	for _, part := range parts {
		has(t, c.Message, part)
	}
}

// tells waits until an event of a pod says something: they come a moment after its conditions.
func (w *workload) tells(t *testing.T, pod *corev1.Pod, part string) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "an event says "+part, func() error {
		if events := w.events(t, pod); !strings.Contains(events, part) {
			return fmt.Errorf("they are\n%s", events)
		}
		return nil
	})
}

// refused waits until the workload's new pod says that it does not start, in its condition and by kubelet's events.
func (w *workload) refused(t *testing.T, former *corev1.Pod, sentence string) *corev1.Pod {
	t.Helper()
	var found *corev1.Pod
	lab.Eventually(t, 2*time.Minute, "the new pod does not start", func() error {
		pods, err := w.c.Client.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return p.UID != former.UID })
		if i < 0 {
			return fmt.Errorf("there is none")
		}
		found = &pods.Items[i]
		events := w.events(t, found)
		for _, c := range found.Status.Conditions {
			if c.Type == keys.Restored && c.Reason == keys.RestoreRefused && strings.Contains(c.Message, sentence) &&
				strings.Count(events, sentence) > 1 { // the agent's own is one
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v, its events\n%s", found.Status.Conditions, events)
	})
	if isRunning(found) {
		t.Errorf("its containers are %+v", found.Status.ContainerStatuses)
	}
	return found
}

// isRunning tells whether the pod's container runs. Its phase does not: kubelet calls a pod Running whose container it makes again and again.
func isRunning(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.State.Running != nil })
}

func TestAPolicyNamesTheCheckpointToGoBackTo(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, plainPod, nil)
	w.policy(t, v1alpha1.RestorePolicySpec{Mode: v1alpha1.RestoreDisabled})
	w.create(t)
	first := w.running(t, nil)
	before := waitForCount(t, c, first, 20)
	w.deletePod(t, first)
	second := w.running(t, first)
	w.isCold(t, second, keys.ColdRestoreDisabled, "RestorePolicy mine")
	waitForCount(t, c, second, 1)
	named := v1alpha1.TerminationName(first.Name, first.UID)
	w.changePolicy(t, map[string]any{"mode": "Enabled", "source": "Named", "checkpointName": named})
	w.deletePod(t, second)
	third := w.running(t, second)
	w.goesOn(t, third, before, nil)
	has(t, w.restored(t, third).Message, "continues from Checkpoint "+named+" by RestorePolicy mine")
	newer := w.checkpoint(t, second, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
	if newer.Status.Claim != nil {
		t.Errorf("the newest was claimed: %+v", newer.Status.Claim)
	}
	w.deletePod(t, third)
	w.isCold(t, w.running(t, third), keys.ColdCheckpointClaimed, "pod "+third.Name+" was restored from Checkpoint "+named, "RestorePolicy mine")
}

func TestWithFailAPodStartsOnceThePolicyLetsItBeRestored(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, plainPod, nil)
	w.policy(t, v1alpha1.RestorePolicySpec{Fallback: v1alpha1.FallbackFail, MaxAge: &metav1.Duration{Duration: time.Millisecond}})
	w.create(t)
	first := w.running(t, nil)
	w.isCold(t, first, keys.ColdNoCheckpoint) // the first of all is not refused
	before := waitForCount(t, c, first, 10)
	w.deletePod(t, first)
	w.refused(t, first, "not restored, and RestorePolicy mine says Fail: CheckpointTooOld")
	w.changePolicy(t, map[string]any{"maxAge": "1h"})
	w.goesOn(t, w.running(t, first), before, nil)
}

// The new template takes a right away that the captured processes have: the node refuses to restore them.
func TestWithFailAContainerIsNotStartedWhoseRestoreTheNodeRefuses(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, plainPod, nil)
	w.policy(t, v1alpha1.RestorePolicySpec{Fallback: v1alpha1.FallbackFail, TemplateChanges: v1alpha1.TemplateChangesRestore})
	w.create(t)
	first := w.running(t, nil)
	waitForCount(t, c, first, 10)
	w.template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, AllowPrivilegeEscalation: new(bool),
	}
	w.deletePod(t, first)
	second := w.refused(t, first, "not restored, and RestorePolicy mine says Fail: ")
	has(t, w.restored(t, second).Message, keys.ColdSecurityContextMismatch)
	if claim := w.checkpoint(t, first, "is there", func(*v1alpha1.Checkpoint) error { return nil }).Status.Claim; claim == nil || claim.PodUID != second.UID {
		t.Errorf("the claim is %+v", claim)
	}
	w.changePolicy(t, map[string]any{"fallback": "ColdStart"})
	lab.Eventually(t, 3*time.Minute, "the same pod starts", func() error {
		now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), second.Name, metav1.GetOptions{})
		if err == nil && (now.UID != second.UID || !isRunning(now)) {
			err = fmt.Errorf("its containers are %+v", now.Status.ContainerStatuses)
		}
		return err
	})
	w.isCold(t, second, keys.ColdSecurityContextMismatch, "starts cold")
	w.checkpoint(t, first, "is free again", func(c *v1alpha1.Checkpoint) error {
		if c.Status.Claim != nil {
			return fmt.Errorf("its claim is %+v", c.Status.Claim)
		}
		return nil
	})
}

func TestAPolicyLetsPodsGoOnOverAChangeOfTheirTemplate(t *testing.T) {
	for _, kind := range []string{statefulSet, deployment} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := prepareWorkload(t, c, kind, nil)
			w.policy(t, v1alpha1.RestorePolicySpec{TemplateChanges: v1alpha1.TemplateChangesRestore})
			w.create(t)
			first := w.running(t, nil)
			before := waitForCount(t, c, first, 10)
			change := map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": map[string]any{"revision": "two"}}}}
			if kind == deployment {
				change["strategy"] = map[string]any{"type": "Recreate", "rollingUpdate": nil}
			}
			patch, apps := patchJSON(t, map[string]any{"spec": change}), c.Client.AppsV1()
			var err error
			if kind == deployment {
				_, err = apps.Deployments(w.ns).Patch(t.Context(), workloadName, types.MergePatchType, patch, metav1.PatchOptions{})
			} else {
				_, err = apps.StatefulSets(w.ns).Patch(t.Context(), workloadName, types.MergePatchType, patch, metav1.PatchOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			w.awaitGone(t, first)
			second := w.running(t, first)
			if second.Annotations["revision"] != "two" {
				t.Errorf("the new pod is of the old template: %v", second.Annotations)
			}
			w.goesOn(t, second, before, nil)
			w.isOverruled(t, second)
		})
	}
}

// isOverruled waits until the policy that was spawned for the owner of a pod says that the one of the test decides.
func (w *workload) isOverruled(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "the policy of the owner is overruled", func() error {
		policies, err := operator.Checkpoints.CheckpointV1alpha1().RestorePolicies(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, policy := range policies.Items {
			if policy.Spec.Owner == nil || policy.Spec.Owner.UID != metav1.GetControllerOf(pod).UID {
				continue
			}
			if c := meta.FindStatusCondition(policy.Status.Conditions, v1alpha1.RestorePolicyOverruled); c != nil && c.Status == metav1.ConditionTrue {
				has(t, c.Message, "RestorePolicy mine decides")
				return nil
			}
		}
		return fmt.Errorf("there are %+v", policies.Items)
	})
}

func TestAPolicyHasPodsNotWait(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, deployment, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Args = []string{"serve", "-mib=400"} // whose capture takes longer than the binding of the successor
	})
	w.policy(t, v1alpha1.RestorePolicySpec{WaitFor: &metav1.Duration{}})
	w.create(t)
	first := w.running(t, nil)
	waitForCount(t, c, first, 10)
	if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), first.Name, metav1.DeleteOptions{}); err != nil { // its successor comes at once
		t.Fatal(err)
	}
	w.isCold(t, w.running(t, first), keys.ColdWaitTimeout, "took longer than 0s", "RestorePolicy mine")
	w.checkpoint(t, first, "is there for the next one", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
}
