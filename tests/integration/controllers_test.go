package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/storage/image"
	"github.com/transparent-checkpoint/operator/tests/builder"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

const patience = 20 * time.Second

// The life of a Checkpoint, from the deletion of its pod to that of its data. The test plays the agent.
func TestACheckpointFromThePodsDeletionToItsOwn(t *testing.T) {
	ns := namespace(t)
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	startManager(t, ns, store)
	node := newNode(t)
	controller := owner(t, ns, "web.1")
	pod := start(t, builder.MakePod(ns, "web-0").Admitted().Node(node).ControlledBy("v1", "ConfigMap", controller).Obj())

	if err := shared.Client.CoreV1().Pods(ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	name := v1alpha1.TerminationName(pod.Name, pod.UID)
	awaitState(t, ns, name, metav1.ConditionFalse, v1alpha1.StatePending)
	made := read(t, ns, name)
	if s := made.Status.Source; s == nil || s.PodUID != pod.UID || s.Node != node || s.Owner == nil || s.Owner.UID != controller.UID {
		t.Errorf("its source is %+v", s)
	}
	if made.Labels[keys.PodUID] != string(pod.UID) || made.Labels[keys.Lineage] != made.Status.Source.Lineage {
		t.Errorf("its labels are %v", made.Labels)
	}
	lab.Eventually(t, patience, "it is stalled, as there is nowhere to store it", func() error { // another writer than that of Pending
		stalled := meta.FindStatusCondition(read(t, ns, name).Status.Conditions, v1alpha1.CheckpointStalled)
		if stalled == nil || stalled.Reason != v1alpha1.ReasonNoStorageLocation {
			return fmt.Errorf("it is stalled for %v", stalled)
		}
		return nil
	})

	location := newWorkingLocation(t, ns)
	lab.Eventually(t, patience, "it is no longer stalled", func() error {
		if c := meta.FindStatusCondition(read(t, ns, name).Status.Conditions, v1alpha1.CheckpointStalled); c != nil {
			return fmt.Errorf("it is stalled: %v", c)
		}
		return nil
	})

	uploading := condition(v1alpha1.CheckpointUploaded, metav1.ConditionFalse, v1alpha1.StateUploading)
	write(t, ns, name, keys.PublishFields, apply.CheckpointStatus().WithConditions(
		condition(v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.StateDumping)))
	awaitState(t, ns, name, metav1.ConditionFalse, v1alpha1.StateDumping)
	captured := condition(v1alpha1.CheckpointCaptured, metav1.ConditionTrue, v1alpha1.StateCompleted)
	write(t, ns, name, keys.PublishFields, apply.CheckpointStatus().WithConditions(captured, uploading))
	awaitState(t, ns, name, metav1.ConditionFalse, v1alpha1.StateUploading)
	write(t, ns, name, keys.PublishFields, apply.CheckpointStatus().WithLocationName(location).WithManifestDigest(digest).
		WithConditions(captured, condition(v1alpha1.CheckpointUploaded, metav1.ConditionTrue, v1alpha1.StateCompleted)))
	awaitState(t, ns, name, metav1.ConditionTrue, v1alpha1.StateCompleted)
	for _, state := range []string{v1alpha1.StateDumping, v1alpha1.StateUploading, v1alpha1.StateCompleted} {
		awaitEvent(t, ns, "Checkpoint", name, state)
		awaitEvent(t, ns, "Pod", pod.Name, state)
	}

	folder := keys.StorageFolder(ns, read(t, ns, name).Status.Source.Lineage)
	putState(t, store, folder, made)
	deleteCheckpoint(t, ns, name)
	awaitNoCheckpoint(t, ns, name)
	checkEmpty(t, store, folder)
}

func TestACheckpointOfWhichNothingWasUploadedGoesAtOnce(t *testing.T) {
	ns := namespace(t)
	startManager(t, ns, nil) // whoever opens a bucket gets none
	c := newCheckpoint()
	c.Finalizers = []string{keys.CheckpointFinalizer}
	name := create(t, client.CheckpointV1alpha1().Checkpoints(ns), func() *v1alpha1.Checkpoint { return c }, nil).Name
	deleteCheckpoint(t, ns, name)
	awaitNoCheckpoint(t, ns, name)
}

func TestAPodThatNeverRanLeavesNoCheckpoint(t *testing.T) {
	ns := namespace(t)
	startManager(t, ns, nil)
	pods := shared.Client.CoreV1().Pods(ns)
	still, err := pods.Create(t.Context(), builder.MakePod(ns, "still").Admitted().Node(nowhere(ns)).Obj(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ran := start(t, builder.MakePod(ns, "ran").Admitted().Node(nowhere(ns)).Obj())
	for _, pod := range []*corev1.Pod{still, ran} { // the second shows that the first was seen
		t.Cleanup(func() {
			_ = pods.Delete(context.Background(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
		})
		if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	awaitState(t, ns, v1alpha1.TerminationName(ran.Name, ran.UID), metav1.ConditionFalse, v1alpha1.StatePending)
	_, err = client.CheckpointV1alpha1().Checkpoints(ns).Get(t.Context(), v1alpha1.TerminationName(still.Name, still.UID), metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the Checkpoint of a pod that never ran: %v", err)
	}
}

func TestAPolicyIsSpawnedOnceAndCounts(t *testing.T) {
	ns := namespace(t)
	startManager(t, ns, nil)
	controller, policies := owner(t, ns, "db"), client.CheckpointV1alpha1().RestorePolicies(ns)
	first := start(t, builder.MakePod(ns, "db-0").Admitted().Node(nowhere(ns)).ControlledBy("v1", "ConfigMap", controller).Obj())
	awaitPolicy(t, ns, v1alpha1.RestorePolicyActive, 0)

	policy, err := policies.Get(t.Context(), spawned, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	policy.Spec.Mode = v1alpha1.RestoreDisabled
	if _, err := policies.Update(t.Context(), policy, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPolicy(t, ns, v1alpha1.RestorePolicyDisabled, 0)

	restored(t, first)
	awaitPolicy(t, ns, v1alpha1.RestorePolicyDisabled, 1)
	second := start(t, builder.MakePod(ns, "db-1").Admitted().Node(nowhere(ns)).ControlledBy("v1", "ConfigMap", controller).Obj())
	restored(t, first) // again, with another message
	restored(t, second)
	awaitPolicy(t, ns, v1alpha1.RestorePolicyDisabled, 2)
	all, err := policies.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Items) != 1 || all.Items[0].UID != policy.UID {
		t.Errorf("the policies are %v", all.Items)
	}
}

// A policy that was spawned belongs to whoever edits it, and gives way to one with a selector.
func TestAPolicyThatWasSpawnedStaysAsItWasEditedAndSaysWhoOverrulesIt(t *testing.T) {
	ns := namespace(t)
	startManager(t, ns, nil)
	controller, policies := owner(t, ns, "db"), client.CheckpointV1alpha1().RestorePolicies(ns)
	first := start(t, builder.MakePod(ns, "db-0").Admitted().Node(nowhere(ns)).ControlledBy("v1", "ConfigMap", controller).Obj())
	awaitPolicy(t, ns, v1alpha1.RestorePolicyActive, 0)
	edit := []byte(`{"spec":{"fallback":"Fail","waitFor":"10m","templateChanges":"Restore","maxAge":"1h","source":"Named","checkpointName":"db-0-1"}}`)
	edited, err := policies.Patch(t.Context(), spawned, types.MergePatchType, edit, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	awaitOverruled(t, ns, spawned, metav1.ConditionFalse, "it decides for every pod")

	authored := newRestorePolicy()
	authored.GenerateName, authored.Name, authored.Spec.Owner, authored.Spec.Selector = "", "mine", nil, everyPod()
	create(t, policies, func() *v1alpha1.RestorePolicy { return authored }, nil)
	awaitOverruled(t, ns, spawned, metav1.ConditionTrue, "RestorePolicy mine decides")
	awaitOverruled(t, ns, "mine", metav1.ConditionFalse, "it decides for every pod")
	awaitEvent(t, ns, "RestorePolicy", spawned, v1alpha1.RestorePolicyAnotherFirst)

	restored(t, first)
	lab.Eventually(t, patience, "the pod is counted where it was decided", func() error {
		mine, err := policies.Get(t.Context(), "mine", metav1.GetOptions{})
		if err == nil && mine.Status.Restored != 1 {
			err = fmt.Errorf("its status is %+v", mine.Status)
		}
		return err
	})
	second := start(t, builder.MakePod(ns, "db-1").Admitted().Node(nowhere(ns)).ControlledBy("v1", "ConfigMap", controller).Obj())
	restored(t, second)
	lab.Eventually(t, patience, "the second is counted, too", func() error {
		mine, err := policies.Get(t.Context(), "mine", metav1.GetOptions{})
		if err == nil && mine.Status.Restored != 2 {
			err = fmt.Errorf("its status is %+v", mine.Status)
		}
		return err
	})
	now, err := policies.Get(t.Context(), spawned, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(edited.Spec, now.Spec); diff != "" || now.Status.Restored != 0 {
		t.Errorf("it was changed, or counted %d (-edited +now):\n%s", now.Status.Restored, diff)
	}
	if err := policies.Delete(t.Context(), "mine", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitOverruled(t, ns, spawned, metav1.ConditionFalse, "it decides for every pod")
}

func awaitOverruled(t *testing.T, ns, name string, status metav1.ConditionStatus, says string) {
	t.Helper()
	lab.Eventually(t, patience, fmt.Sprintf("policy %s is overruled: %s", name, status), func() error {
		policy, err := client.CheckpointV1alpha1().RestorePolicies(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(policy.Status.Conditions, v1alpha1.RestorePolicyOverruled)
		if c == nil || c.Status != status || !strings.Contains(c.Message, says) || c.ObservedGeneration != policy.Generation {
			return fmt.Errorf("its status is %+v", policy.Status)
		}
		return nil
	})
}

// Two managers count at once, and an older one that knows fewer fields may be among them: what another writes meanwhile stays.
func TestCountersAndConditionsOfAPolicyAreWrittenByManyAtOnce(t *testing.T) {
	ns := namespace(t)
	for range 2 {
		startManager(t, ns, nil)
	}
	controller := owner(t, ns, "db")
	const pods = 8
	for i := range pods {
		restored(t, start(t, builder.MakePod(ns, fmt.Sprintf("db-%d", i)).Admitted().Node(nowhere(ns)).ControlledBy("v1", "ConfigMap", controller).Obj()))
	}
	awaitPolicy(t, ns, v1alpha1.RestorePolicyActive, pods)
	awaitOverruled(t, ns, spawned, metav1.ConditionFalse, "it decides for every pod")
}

func TestAPodThatAdmissionMissedSaysSo(t *testing.T) {
	ns := namespace(t)
	startManager(t, ns, nil)
	pod := start(t, builder.MakePod(ns, "slipped").Labelled().Node(nowhere(ns)).Obj())
	lab.Eventually(t, patience, "it says that it is not protected", func() error {
		current, err := shared.Client.CoreV1().Pods(ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range current.Status.Conditions {
			if string(c.Type) == keys.Checkpointable && c.Status == corev1.ConditionFalse && c.Reason == keys.UnprotectedNotAdmitted {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %v", current.Status.Conditions)
	})
	awaitEvent(t, ns, "Pod", pod.Name, keys.UnprotectedNotAdmitted)
}

func TestALocationIsTried(t *testing.T) {
	ns := namespace(t)
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	startManager(t, ns, store)
	name := newLocationNamed(t, ns)
	awaitLocation(t, name, metav1.ConditionFalse, v1alpha1.LocationCredentialsMissing)
	newCredentials(t, ns)
	awaitLocation(t, name, metav1.ConditionTrue, v1alpha1.LocationValidated)
	checkEmpty(t, store, "")
}

func newNode(t *testing.T) string {
	t.Helper()
	nodes := shared.Client.CoreV1().Nodes()
	made, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "paper-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nodes.Delete(context.Background(), made.Name, metav1.DeleteOptions{}) })
	ready := []byte(`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`)
	if _, err := nodes.Patch(t.Context(), made.Name, types.StrategicMergePatchType, ready, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	return made.Name
}

func newLocationNamed(t *testing.T, name string) string {
	t.Helper()
	locations := client.CheckpointV1alpha1().CheckpointStorageLocations()
	made, err := locations.Create(t.Context(), &v1alpha1.CheckpointStorageLocation{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.CheckpointStorageLocationSpec{
			Endpoint: "http://minio.storage:9000", Bucket: "checkpoints", Role: v1alpha1.RoleDefault, Credentials: v1alpha1.LocationCredentials{SecretName: "bucket"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = locations.Delete(context.Background(), made.Name, metav1.DeleteOptions{}) })
	return made.Name
}

func newCredentials(t *testing.T, ns string) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bucket"}, StringData: map[string]string{
		v1alpha1.CredentialsAccessKeyID: "a", v1alpha1.CredentialsSecretAccessKey: "b",
	}}
	if _, err := shared.Client.CoreV1().Secrets(ns).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// newWorkingLocation makes a default location whose bucket is the manager's store.
func newWorkingLocation(t *testing.T, ns string) string {
	t.Helper()
	newCredentials(t, ns)
	name := newLocationNamed(t, ns)
	awaitLocation(t, name, metav1.ConditionTrue, v1alpha1.LocationValidated)
	return name
}

func awaitLocation(t *testing.T, name string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	lab.Eventually(t, patience, "the location is "+reason, func() error {
		location, err := client.CheckpointV1alpha1().CheckpointStorageLocations().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(location.Status.Conditions, v1alpha1.LocationAvailable)
		if c == nil || c.Status != status || c.Reason != reason || location.Status.ObservedGeneration != location.Generation {
			return fmt.Errorf("its status is %+v", location.Status)
		}
		return nil
	})
}

func awaitState(t *testing.T, ns, name string, status metav1.ConditionStatus, state string) {
	t.Helper()
	lab.Eventually(t, patience, "the Checkpoint is "+state, func() error {
		c, err := client.CheckpointV1alpha1().Checkpoints(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady); ready == nil || ready.Status != status || ready.Reason != state {
			return fmt.Errorf("it is %+v", ready)
		}
		return nil
	})
}

// spawned is the name of the policy of the owner "db".
const spawned = "configmap-db"

func awaitPolicy(t *testing.T, ns, reason string, restored int64) {
	t.Helper()
	lab.Eventually(t, patience, fmt.Sprintf("the policy is %s and has counted %d", reason, restored), func() error {
		policy, err := client.CheckpointV1alpha1().RestorePolicies(ns).Get(t.Context(), spawned, metav1.GetOptions{})
		if err != nil {
			return err
		}
		ready := meta.FindStatusCondition(policy.Status.Conditions, v1alpha1.RestorePolicyReady)
		if ready == nil || ready.Reason != reason || policy.Status.Restored != restored {
			return fmt.Errorf("its status is %+v", policy.Status)
		}
		return nil
	})
}

// restored says of a pod what the agent says of one that continued.
func restored(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":"True","reason":%q,"message":"at %s"}]}}`,
		keys.Restored, keys.RestoredFromCheckpoint, time.Now().Format(time.RFC3339Nano))
	_, err := clientOf(t, theManager, "").CoreV1().Pods(pod.Namespace).Patch(t.Context(), pod.Name, types.StrategicMergePatchType, []byte(patch),
		metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
}

func awaitEvent(t *testing.T, ns, kind, name, reason string) {
	t.Helper()
	lab.Eventually(t, patience, fmt.Sprintf("%s %s has the event %s", kind, name, reason), func() error {
		all, err := shared.Client.EventsV1().Events(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range all.Items {
			if e.Regarding.Kind == kind && e.Regarding.Name == name && e.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("it is not among %d events", len(all.Items))
	})
}

func deleteCheckpoint(t *testing.T, ns, name string) {
	t.Helper()
	if err := client.CheckpointV1alpha1().Checkpoints(ns).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func awaitNoCheckpoint(t *testing.T, ns, name string) {
	t.Helper()
	lab.Eventually(t, patience, "the Checkpoint is gone", func() error {
		_, err := client.CheckpointV1alpha1().Checkpoints(ns).Get(t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			err = errors.New("it is still there")
		}
		return err
	})
}

// putState stores a state of a Checkpoint.
func putState(t *testing.T, store storage.Store, folder string, c *v1alpha1.Checkpoint) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "memory"), []byte("of "+c.UID), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&image.Folder{Store: store, Name: folder}).Upload(t.Context(), string(c.UID), dir, image.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
}

func checkEmpty(t *testing.T, store storage.Store, prefix string) {
	t.Helper()
	for info, err := range store.List(t.Context(), prefix, "") {
		t.Errorf("%s was left behind (%v)", info.Key, err)
	}
}
