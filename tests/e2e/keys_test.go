package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// Pods without any label go on when their Namespace asks for that, by label or by annotation; one that says "false" does not.
func TestANamespaceAsksForItsPods(t *testing.T) {
	c := labelled(t)
	for place, kind := range map[string]string{"labels": deployment, "annotations": plainPod} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := prepareWorkload(t, c, kind, func(template *corev1.PodTemplateSpec) { delete(template.Labels, keys.CheckpointMode) })
			patch := patchJSON(t, map[string]any{"metadata": map[string]any{place: map[string]string{keys.CheckpointMode: keys.True}}})
			if _, err := c.Client.CoreV1().Namespaces().Patch(t.Context(), w.ns, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			lab.Eventually(t, 30*time.Second, "pods of the Namespace are admitted", func() error {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "try"}, Spec: w.template.Spec}
				made, err := c.Client.CoreV1().Pods(w.ns).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				if err == nil && !podspec.IsProtected(made) {
					err = fmt.Errorf("its annotations are %v", made.Annotations)
				}
				return err
			})
			w.create(t)
			pod := w.running(t, nil)
			if pod.Labels[keys.CheckpointMode] != keys.True {
				t.Errorf("its labels are %v", pod.Labels)
			}
			before := waitForCount(t, c, pod, 10)
			refusing := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "refusing", Labels: map[string]string{keys.CheckpointMode: keys.False}}, Spec: w.template.Spec,
			}
			if _, err := c.Client.CoreV1().Pods(w.ns).Create(t.Context(), refusing, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			refusing = awaitRunning(t, c, w.ns, "refusing")
			if podspec.IsProtected(refusing) {
				t.Errorf("one that wants none has the settings %s", refusing.Annotations[keys.Effective])
			}

			if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), refusing.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			w.deletePod(t, pod)
			w.goesOn(t, w.running(t, pod), before, nil)
			w.awaitGone(t, refusing)
			name := v1alpha1.TerminationName(refusing.Name, refusing.UID)
			if _, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("one that wants none has a Checkpoint: %v", err)
			}
		})
	}
}

// An annotation alone says that a pod is captured, and which of its containers.
func TestAnAnnotationNamesTheContainers(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		delete(template.Labels, keys.CheckpointMode)
		template.Annotations = map[string]string{keys.CheckpointMode: keys.True, keys.CheckpointContainers: "app,side"}
		template.Spec.Containers = append(template.Spec.Containers, container("side", "serve", "-address=:8081"), container("log", "serve", "-address=:8082"))
	})
	before, side := waitForCount(t, c, pod, 10), counts(t, c, pod, "8081")
	lab.Eventually(t, time.Minute, "what is left out has counted", func() error {
		if log := counts(t, c, pod, "8082"); log.Count < 50 {
			return fmt.Errorf("it is %+v", log)
		}
		return nil
	})
	left := counts(t, c, pod, "8082")
	w.deletePod(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	if now := counts(t, c, next, "8081"); now.Count < side.Count {
		t.Errorf("side counted to %d, and goes on at %d", side.Count, now.Count)
	}
	if now := counts(t, c, next, "8082"); now.Count >= left.Count {
		t.Errorf("what is left out counted to %d, and goes on at %d", left.Count, now.Count)
	}
	checkpoint := w.checkpoint(t, pod, "says what it has", func(made *v1alpha1.Checkpoint) error {
		if len(made.Status.Containers) == 0 {
			return fmt.Errorf("it has %+v", made.Status.Containers)
		}
		return nil
	})
	var names []string
	for _, c := range checkpoint.Status.Containers {
		names = append(names, c.Name)
	}
	slices.Sort(names) // they are in the order in which they were dumped
	if diff := cmp.Diff([]string{"app", "side"}, names); diff != "" {
		t.Errorf("captured containers (-want +got)\n%s", diff)
	}
}
