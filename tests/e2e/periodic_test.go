package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// made waits until there are as many complete Checkpoints of a pod with a trigger.
func (w *workload) made(t *testing.T, pod *corev1.Pod, trigger v1alpha1.CheckpointTrigger, many int) {
	t.Helper()
	lab.Eventually(t, 3*time.Minute, fmt.Sprintf("%d Checkpoints by %s", many, trigger), func() error {
		all, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		found := 0
		for _, c := range all.Items {
			if c.Spec.Trigger == trigger && c.Spec.SourcePodUID == pod.UID && isComplete(&c) == nil {
				found++
			}
		}
		if found < many {
			return fmt.Errorf("of %d there are %d", len(all.Items), found)
		}
		return nil
	})
}

// A pod is captured while it goes on, by each trigger; when it fails, the pod in its place goes on from the last one.
func TestAPodThatFailsGoesOnFromItsLastPeriodicCheckpoint(t *testing.T) {
	t.Parallel()
	for trigger, change := range map[v1alpha1.CheckpointTrigger]struct {
		template func(*corev1.PodTemplateSpec)
		policy   func(*v1alpha1.CheckpointPolicySpec)
		wish     bool
	}{
		v1alpha1.TriggerAnnotation: {wish: true},
		v1alpha1.TriggerInterval: {template: func(template *corev1.PodTemplateSpec) {
			template.Spec.Containers[0].Env = append(template.Spec.Containers[0].Env, corev1.EnvVar{Name: keys.EnvInterval, Value: "10s"})
		}},
		v1alpha1.TriggerSchedule: {policy: func(p *v1alpha1.CheckpointPolicySpec) {
			p.Triggers = &v1alpha1.CheckpointTriggers{Schedule: &v1alpha1.CheckpointSchedule{Cron: "* * * * *", Jitter: &metav1.Duration{Duration: 10 * time.Second}}}
		}},
	} {
		t.Run(string(trigger), func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := prepareWorkload(t, c, job, change.template)
			if change.policy != nil {
				w.capturing(t, change.policy)
			}
			w.create(t)
			pod := w.running(t, nil)
			before := waitForCount(t, c, pod, 3)
			if change.wish {
				patch := []byte(`{"metadata":{"annotations":{"` + keys.CheckpointTrigger + `":"now"}}}`)
				if _, err := c.Client.CoreV1().Pods(w.ns).Patch(t.Context(), pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			w.made(t, pod, trigger, 1)
			now, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
			if err != nil || now.Annotations[keys.CheckpointTrigger] != "" {
				t.Errorf("the pod has the annotations %v, %v", now.Annotations, err)
			}
			undisturbed(t, before, w.countOf(t, pod))
			asks("exit", "code", "7")(t, w, pod)
			w.goesOn(t, w.running(t, pod), before, nil)
		})
	}
}

// A pod whose node loses its power goes on elsewhere, from its last periodic Checkpoint. No other test may run meanwhile.
func TestAPodWhoseNodeLostItsPowerGoesOnFromItsLastPeriodicCheckpoint(t *testing.T) {
	c := labelled(t)
	w := prepareWorkload(t, c, deployment, func(template *corev1.PodTemplateSpec) {
		template.Annotations = map[string]string{keys.CheckpointInterval: "10s"}
	})
	w.create(t)
	pod := w.running(t, nil)
	put(t, c, pod, "/scratch/mine", "before")
	before := waitForCount(t, c, pod, 3)
	w.made(t, pod, v1alpha1.TriggerInterval, 2)
	c.Run(t, "node", "stop", pod.Spec.NodeName)
	defer c.Run(t, "node", "start", pod.Spec.NodeName)
	lab.Eventually(t, 2*time.Minute, "the node is known to be off", func() error { // until then webhooks of its manager are still called
		node, err := c.Client.CoreV1().Nodes().Get(t.Context(), pod.Spec.NodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return fmt.Errorf("it is %+v", condition)
			}
		}
		return nil
	})
	outOfService(t, c, pod.Spec.NodeName) // so its pods are deleted, and nothing is waited for that it may have
	next := w.running(t, pod)
	w.goesOn(t, next, before, map[string]string{"/scratch/mine": "before"})
	if said := w.restored(t, next).Message; !strings.Contains(said, v1alpha1.LiveName(pod.Name, pod.UID, "")) {
		t.Errorf("it says %s", said)
	}
}

// outOfService says of a node, until the test ends, that it is off for good.
func outOfService(t *testing.T, c *lab.Cluster, node string) {
	t.Helper()
	patch := func(ctx context.Context, taints string) {
		data := []byte(`{"spec":{"taints":` + taints + `}}`)
		if _, err := c.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, data, metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	}
	patch(t.Context(), `[{"key":"node.kubernetes.io/out-of-service","value":"nodeshutdown","effect":"NoExecute"}]`)
	t.Cleanup(func() { patch(context.Background(), `null`) })
}
