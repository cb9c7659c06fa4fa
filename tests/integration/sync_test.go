package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/stored"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/storage/image"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// Two states of another cluster come up in a read-only bucket. One is deleted here and stays so; when the other goes from the bucket, it goes here, too.
func TestABucketBringsItsCheckpointsAlong(t *testing.T) {
	ns := namespace(t)
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	one, two := elsewhere(ns, "one"), elsewhere(ns, "two")
	folder := &image.Folder{Store: store, Name: keys.StorageFolder(ns, one.Status.Source.Lineage)}
	for _, c := range []*v1alpha1.Checkpoint{one, two} {
		dir := t.TempDir()
		data, err := json.Marshal(stored.Checkpoint(c))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, stored.FileName), data, 0o600)
		}
		if err == nil {
			_, err = folder.Upload(t.Context(), string(c.UID), dir, image.UploadOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	startManager(t, ns, store)
	newCredentials(t, ns)
	location := newLocationNamed(t, ns)
	change := func(spec func(*v1alpha1.CheckpointStorageLocationSpec)) {
		t.Helper()
		locations := client.CheckpointV1alpha1().CheckpointStorageLocations()
		lab.Eventually(t, patience, "the location is changed", func() error {
			now, err := locations.Get(t.Context(), location, metav1.GetOptions{})
			if err != nil {
				return err
			}
			spec(&now.Spec)
			_, err = locations.Update(t.Context(), now, metav1.UpdateOptions{})
			return err
		})
	}
	synced := func(message string) {
		t.Helper()
		lab.Eventually(t, patience, "it says "+message, func() error {
			now, err := client.CheckpointV1alpha1().CheckpointStorageLocations().Get(t.Context(), location, metav1.GetOptions{})
			if err != nil {
				return err
			}
			c := meta.FindStatusCondition(now.Status.Conditions, v1alpha1.LocationSynced)
			if c == nil || c.Status != metav1.ConditionTrue || !strings.HasPrefix(c.Message, message) || c.ObservedGeneration != now.Generation {
				return fmt.Errorf("it says %+v", c)
			}
			return nil
		})
	}
	change(func(s *v1alpha1.CheckpointStorageLocationSpec) {
		s.AccessMode, s.SyncInterval = v1alpha1.AccessReadOnly, &metav1.Duration{Duration: time.Hour}
	})
	synced("2 in the bucket, 2 made anew")
	for _, c := range []*v1alpha1.Checkpoint{one, two} {
		awaitState(t, ns, c.Name, metav1.ConditionTrue, v1alpha1.StateCompleted)
		now := read(t, ns, c.Name)
		if now.StorageName() != string(c.UID) || len(now.OwnerReferences) > 0 || now.Labels[keys.Lineage] != c.Status.Source.Lineage {
			t.Errorf("it is %+v", now)
		}
	}

	deleteCheckpoint(t, ns, one.Name)
	awaitNoCheckpoint(t, ns, one.Name)
	change(func(s *v1alpha1.CheckpointStorageLocationSpec) {
		s.SyncInterval = &metav1.Duration{Duration: 2 * time.Hour}
	}) // a change has it look at once
	synced("2 in the bucket, 0 made anew; 1 were deleted here")
	if err := folder.Delete(t.Context(), string(two.UID)); err != nil {
		t.Fatal(err)
	}
	change(func(s *v1alpha1.CheckpointStorageLocationSpec) {
		s.SyncInterval = &metav1.Duration{Duration: time.Hour}
	})
	awaitNoCheckpoint(t, ns, two.Name)
	synced("1 in the bucket, 0 made anew; 1 were deleted here")
}

// elsewhere is the Checkpoint of a pod in another cluster: its owner is not here.
func elsewhere(ns, pod string) *v1alpha1.Checkpoint {
	c, source, cut := newCheckpoint(), newSource(), metav1.Now()
	c.Namespace, c.GenerateName, c.Name, c.UID = ns, "", pod, types.UID("elsewhere-"+pod)
	source.PodUID = c.Spec.SourcePodUID
	c.Status = v1alpha1.CheckpointStatus{Source: source, CaptureTime: &cut}
	return c
}
