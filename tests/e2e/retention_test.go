package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// capturing writes a CheckpointPolicy for all pods of a namespace, before there are any.
func (w *workload) capturing(t *testing.T, change func(*v1alpha1.CheckpointPolicySpec)) {
	t.Helper()
	policy := &v1alpha1.CheckpointPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "policy"}, Spec: v1alpha1.CheckpointPolicySpec{Selector: &metav1.LabelSelector{}},
	}
	change(&policy.Spec)
	if _, err := operator.Checkpoints.CheckpointV1alpha1().CheckpointPolicies(w.ns).Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, "the manager has seen the policy", func() error {
		now, err := operator.Checkpoints.CheckpointV1alpha1().CheckpointPolicies(w.ns).Get(t.Context(), policy.Name, metav1.GetOptions{})
		if err == nil && now.Status.ObservedGeneration != now.Generation {
			err = fmt.Errorf("its status is %+v", now.Status)
		}
		return err
	})
}

// objectsOf counts what the bucket has of a Checkpoint, below a prefix of its location.
func objectsOf(t *testing.T, prefix string, c *v1alpha1.Checkpoint) int {
	t.Helper()
	objects, err := operator.ObjectsOf(t.Context(), prefix+keys.StorageFolder(c.Namespace, c.Status.Source.Lineage), string(c.UID))
	if err != nil {
		t.Fatal(err)
	}
	return len(objects)
}

// isInBucket tells whether the default location has a manifest of a Checkpoint.
func isInBucket(t *testing.T, c *v1alpha1.Checkpoint) bool {
	t.Helper()
	objects, err := operator.Objects(t.Context(), keys.StorageFolder(c.Namespace, c.Status.Source.Lineage)+"/manifests/"+string(c.UID))
	if err != nil {
		t.Fatal(err)
	}
	return len(objects) > 0
}

// goes waits until a Checkpoint is gone, and its data with it.
func (w *workload) goes(t *testing.T, c *v1alpha1.Checkpoint) {
	t.Helper()
	lab.Eventually(t, 3*time.Minute, "Checkpoint "+c.Name+" is gone", func() error {
		now, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Get(t.Context(), c.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it is %+v", now.Status.Conditions)
		}
		return err
	})
	if isInBucket(t, c) {
		t.Errorf("the bucket has the manifest of Checkpoint %s, which is gone", c.Name) // it may have packs, which others share
	}
}

func isComplete(c *v1alpha1.Checkpoint) error {
	return is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted)(c)
}

func isExpired(c *v1alpha1.Checkpoint) error {
	return is(v1alpha1.CheckpointReady, metav1.ConditionFalse, v1alpha1.StateExpired)(c)
}

func TestOnlyTheLastCheckpointIsKept(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, statefulSet, nil)
	w.capturing(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.KeepLast = new(int32(1)) })
	w.create(t)
	pod, former := w.running(t, nil), (*corev1.Pod)(nil)
	var generations []*v1alpha1.Checkpoint
	for range 3 {
		next := w.again(t, pod)
		generations = append(generations, w.checkpoint(t, pod, "is complete", isComplete))
		if n := len(generations); objectsOf(t, "", generations[n-1]) == 0 {
			t.Errorf("the bucket has nothing of Checkpoint %s", generations[n-1].Name)
		}
		former, pod = pod, next
	}
	w.goes(t, generations[0])
	w.goes(t, generations[1])
	if last := w.checkpoint(t, former, "is kept", isComplete); objectsOf(t, "", last) == 0 {
		t.Error("the data of the last one is gone")
	}
}

// A state that has expired is not restored, and goes with its data.
func TestACheckpointExpires(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, deployment, nil)
	w.capturing(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.TTL = &metav1.Duration{Duration: 20 * time.Second} })
	w.create(t)
	pod := w.running(t, nil)
	w.countOf(t, pod)
	w.scale(t, 0)
	w.awaitGone(t, pod)
	checkpoint := w.checkpoint(t, pod, "has expired", isExpired)
	w.scale(t, 1)
	next := w.running(t, nil)
	if cold := w.restored(t, next); cold.Status != corev1.ConditionFalse || cold.Reason != keys.ColdCheckpointTooOld {
		t.Errorf("the new pod says %+v", cold)
	}
	w.goes(t, checkpoint)
}

// Scaling to zero and back by hand resumes; a rollout has the Checkpoints of the revision before expire.
func TestARolloutEndsCheckpointsAndScalingDoesNot(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, deployment, nil)
	before := waitForCount(t, c, pod, 10)
	w.scale(t, 0)
	w.awaitGone(t, pod)
	w.checkpoint(t, pod, "is complete", isComplete)
	w.scale(t, 1)
	next := w.running(t, nil)
	w.goesOn(t, next, before, nil)
	patch := []byte(`{"spec":{"template":{"metadata":{"annotations":{"revision":"two"}}}}}`)
	if _, err := c.Client.AppsV1().Deployments(w.ns).Patch(t.Context(), workloadName, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	checkpoint := w.checkpoint(t, next, "has expired", isExpired)
	if ready := checkpoint.Status.Conditions; !strings.Contains(fmt.Sprint(ready), "has rolled out another revision") {
		t.Errorf("it says %+v", ready)
	}
}

func (w *workload) scale(t *testing.T, replicas int) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := w.c.Client.AppsV1().Deployments(w.ns).Patch(t.Context(), workloadName, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// newArchive makes a location of its own in the cluster's bucket, below a prefix.
func newArchive(t *testing.T, name string) {
	t.Helper()
	locations := operator.Checkpoints.CheckpointV1alpha1().CheckpointStorageLocations()
	main, err := locations.Get(t.Context(), install.Location, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	archive := &v1alpha1.CheckpointStorageLocation{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: main.Spec}
	archive.Spec.Role, archive.Spec.Prefix = v1alpha1.RoleNamed, name
	if _, err := locations.Create(t.Context(), archive, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = locations.Delete(context.Background(), name, metav1.DeleteOptions{}) })
}

// A policy leaves a container out, stores the rest in a place of its own, and is paused: then nothing is captured, and what there is is restored.
func TestAPolicySaysWhatIsCapturedAndWhere(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers = append(template.Spec.Containers, container("log", "serve", "-address=:8081"))
	})
	archive := w.ns
	newArchive(t, archive)
	w.capturing(t, func(p *v1alpha1.CheckpointPolicySpec) {
		p.Containers, p.StorageLocation = &v1alpha1.ContainerSelection{Exclude: []string{"log"}}, archive
	})
	w.create(t)
	pod := w.running(t, nil)
	waitForCount(t, c, pod, 100)
	before, logBefore := w.countOf(t, pod), counts(t, c, pod, "8081")
	if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, pod)
	checkpoint := w.checkpoint(t, pod, "is complete", isComplete)
	details := cmpopts.IgnoreFields(v1alpha1.CheckpointContainer{}, "MemoryBytes", "ImageDigest")
	if diff := cmp.Diff([]v1alpha1.CheckpointContainer{{Name: "app", Image: image}}, checkpoint.Status.Containers, details); diff != "" {
		t.Errorf("captured are (-want +got)\n%s", diff)
	}
	if at := checkpoint.Status.LocationName; at != archive || objectsOf(t, archive+"/", checkpoint) == 0 || objectsOf(t, "", checkpoint) > 0 {
		t.Errorf("it is in %q; %d objects there, %d in the default location", at, objectsOf(t, archive+"/", checkpoint), objectsOf(t, "", checkpoint))
	}

	patch := []byte(`{"spec":{"paused":true}}`)
	policies := operator.Checkpoints.CheckpointV1alpha1().CheckpointPolicies(w.ns)
	if _, err := policies.Patch(t.Context(), "policy", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	w.create(t)
	second := w.running(t, nil)
	w.goesOn(t, second, before, nil)
	if now := counts(t, c, second, "8081"); now.Count > logBefore.Count {
		t.Errorf("the container that is left out goes on: before it was %+v, now it is %+v", logBefore, now)
	}
	if said := w.protection(t, second); !strings.Contains(said, keys.UnprotectedPaused) {
		t.Errorf("it says %s", said)
	}
	w.deletePod(t, second)
	third := w.running(t, second)
	if cold := w.restored(t, third); cold.Status != corev1.ConditionFalse || cold.Reason != keys.ColdNoCheckpoint {
		t.Errorf("the pod after one that was not captured says %+v", cold)
	}
	name := v1alpha1.TerminationName(second.Name, second.UID)
	if _, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Checkpoint of a pod that was paused: %v", err)
	}
}

// What is to be kept outlives the StatefulSet: what was captured before, and what its end captures.
func TestCheckpointsOutliveTheirOwner(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, statefulSet, nil)
	w.capturing(t, func(p *v1alpha1.CheckpointPolicySpec) { p.Retention.OnOwnerDeleted = v1alpha1.DisposalKeep })
	w.create(t)
	first := w.running(t, nil)
	second := w.again(t, first)
	w.checkpoint(t, first, "is complete", isComplete)
	if err := c.Client.AppsV1().StatefulSets(w.ns).Delete(t.Context(), workloadName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, second)
	w.checkpoint(t, second, "is complete", isComplete)
	time.Sleep(5 * time.Second) // the garbage collector would have been there by now
	for _, pod := range []*corev1.Pod{first, second} {
		if kept := w.checkpoint(t, pod, "is kept", isComplete); objectsOf(t, "", kept) == 0 || len(kept.OwnerReferences) > 0 {
			t.Errorf("the bucket has %d objects of Checkpoint %s, which goes with %v", objectsOf(t, "", kept), kept.Name, kept.OwnerReferences)
		}
	}
}
