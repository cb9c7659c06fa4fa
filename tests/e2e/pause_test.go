package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	operatorsays "github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// sayForAll merges keys into the ConfigMap of the operator, as a person does it, until the test ends. It concerns all pods of the cluster: such a test is not
// parallel, and so alone.
func sayForAll(t *testing.T, c *lab.Cluster, data map[string]any) {
	t.Helper()
	say := func(ctx context.Context, data map[string]any) error {
		patch := patchJSON(t, map[string]any{"data": data})
		_, err := c.Client.CoreV1().ConfigMaps(install.Namespace).Patch(ctx, operatorsays.ConfigMap, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	if err := say(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for key := range data {
			data[key] = nil
		}
		if err := say(context.Background(), data); err != nil {
			t.Error(err)
		}
	})
}

// protectedAs waits until a pod gives this reason in its condition Checkpointable.
func (w *workload) protectedAs(t *testing.T, pod *corev1.Pod, reason string) {
	t.Helper()
	began := time.Now()
	lab.Eventually(t, 30*time.Second, "pod "+pod.Name+" says "+reason, func() error {
		now, err := w.c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range now.Status.Conditions {
			if condition.Type == keys.Checkpointable && condition.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("it says %+v", now.Status.Conditions)
	})
	t.Logf("%s after %s", reason, time.Since(began).Round(time.Millisecond))
}

// leftNothing checks that there is no Checkpoint of a pod.
func (w *workload) leftNothing(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	name := v1alpha1.TerminationName(pod.Name, pod.UID)
	if _, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Checkpoint of pod %s: %v", pod.Name, err)
	}
}

// end deletes a plain pod, of which nothing may be left.
func (w *workload) end(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if err := w.c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, pod)
	w.leftNothing(t, pod)
}

// While the operator is paused pods start cold and end without a capture, what was captured before stays, and afterwards all is as it was.
func TestPausingTheOperator(t *testing.T) {
	c := labelled(t)
	w, first := newWorkload(t, c, deployment, nil)
	waitForCount(t, c, first, 10)
	w.scale(t, 0)
	w.awaitGone(t, first)
	w.checkpoint(t, first, "is complete", isComplete)
	sayForAll(t, c, map[string]any{operatorsays.Paused: keys.True})
	w.scale(t, 1)
	second := w.running(t, nil)
	w.isCold(t, second, keys.ColdPaused, "the whole operator is paused")
	w.protectedAs(t, second, keys.UnprotectedPaused)
	w.deletePod(t, second)
	third := w.running(t, second)
	w.isCold(t, third, keys.ColdPaused)
	w.leftNothing(t, second)
	if kept := w.checkpoint(t, first, "stays", isComplete); kept.Status.Claim != nil {
		t.Errorf("it was claimed: %+v", kept.Status.Claim)
	}
	sayForAll(t, c, map[string]any{operatorsays.Paused: keys.False})
	w.protectedAs(t, third, keys.CheckpointableProtected)
	before := waitForCount(t, c, third, 10)
	w.deletePod(t, third)
	w.goesOn(t, w.running(t, third), before, nil) // from the newest, and not from that of before the pause
}

// In a namespace that is not allowed a labelled pod runs as any other, and one that pretends to be admitted gets nothing from that.
func TestOnlyPodsOfAllowedNamespacesAreCaptured(t *testing.T) {
	c := labelled(t)
	sayForAll(t, c, map[string]any{operatorsays.NamespaceSelector: "checkpoints=yes"})
	w, pod := newWorkload(t, c, plainPod, nil)
	w.protectedAs(t, pod, keys.UnprotectedNamespace)
	if pod.Spec.RuntimeClassName != nil || pod.Annotations[keys.Effective] != "" {
		t.Errorf("it runs as %v, and has %v", pod.Spec.RuntimeClassName, pod.Annotations)
	}
	w.end(t, pod)

	forged := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{ // the webhook is not asked about it
		Name: "forged", Annotations: map[string]string{keys.Effective: `{"schemaVersion":1,"containers":["app"],"gracePeriodSeconds":120}`},
	}, Spec: w.template.Spec}
	forged.Spec.RuntimeClassName = new(keys.RuntimeClass)
	_, err := c.Client.CoreV1().Pods(w.ns).Create(t.Context(), forged, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "annotation memverge.ai/effective is reserved") {
		t.Errorf("a pod that brings what admission writes: %v", err)
	}

	patch := []byte(`{"metadata":{"labels":{"checkpoints":"yes"}}}`)
	if _, err := c.Client.CoreV1().Namespaces().Patch(t.Context(), w.ns, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	w.template.Labels[keys.CheckpointMode], w.template.Annotations, w.template.Spec.RuntimeClassName = keys.True, nil, nil
	lab.Eventually(t, 30*time.Second, "admission knows that the namespace is allowed", func() error {
		pods, all := c.Client.CoreV1().Pods(w.ns), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
		made, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "try", Labels: w.template.Labels}, Spec: w.template.Spec}, all)
		if err == nil && made.Annotations[keys.Effective] == "" {
			err = fmt.Errorf("it has %v", made.Annotations)
		}
		return err
	})
	w.create(t)
	allowed := w.running(t, nil)
	before := waitForCount(t, c, allowed, 10)
	w.deletePod(t, allowed) // and makes it anew
	w.goesOn(t, w.running(t, allowed), before, nil)
}
