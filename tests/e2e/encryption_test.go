package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// randomBytes are such as nothing compresses, so that a bucket shows them as they are unless they are encrypted.
func randomBytes(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.Read(data) // it never fails
	return data
}

// keyring is a location of its own with a Secret of keys, both of the same name.
type keyring struct {
	name string
	keys map[string][]byte
}

// use has the Secret hold these keys, which are made when they are new, and the location encrypt with the first.
func (k *keyring) use(t *testing.T, c *lab.Cluster, names ...string) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: k.name}, Data: map[string][]byte{}}
	for _, name := range names {
		if k.keys[name] == nil {
			k.keys[name] = []byte(hex.EncodeToString(randomBytes(32)) + "\n") // as openssl rand -hex 32 writes it
		}
		secret.Data[name] = k.keys[name]
	}
	secrets := c.Client.CoreV1().Secrets(install.Namespace)
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		if _, err = secrets.Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = secrets.Delete(context.Background(), k.name, metav1.DeleteOptions{}) })
	}
	patch := patchJSON(t, map[string]any{"spec": map[string]any{"encryption": map[string]any{"secretName": k.name, "currentKey": names[0]}}})
	locations := operator.Checkpoints.CheckpointV1alpha1().CheckpointStorageLocations()
	if _, err := locations.Patch(t.Context(), k.name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	k.says(t, v1alpha1.LocationValidated)
}

// says waits until the location's condition Available has a reason.
func (k *keyring) says(t *testing.T, reason string) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "location "+k.name+" says "+reason, func() error {
		now, err := operator.Checkpoints.CheckpointV1alpha1().CheckpointStorageLocations().Get(t.Context(), k.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range now.Status.Conditions {
			if c.Type == v1alpha1.LocationAvailable && c.Reason == reason && c.ObservedGeneration == now.Generation {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v", now.Status.Conditions)
	})
}

// stored is what the bucket has of a Checkpoint: whether a pattern is in it, and the id of the key of its manifest; zeros are none.
func (k *keyring) stored(t *testing.T, c *v1alpha1.Checkpoint, pattern []byte) (shows bool, keyID string) {
	t.Helper()
	folder := k.name + "/" + keys.StorageFolder(c.Namespace, c.Status.Source.Lineage)
	objects, err := operator.ObjectsOf(t.Context(), folder, string(c.UID))
	if err != nil || len(objects) < 3 { // pack, index, manifest
		t.Fatalf("the bucket has %v, %v", objects, err)
	}
	for _, object := range objects {
		data, err := operator.Content(t.Context(), object.Key)
		if err != nil {
			t.Fatal(err)
		}
		shows = shows || bytes.Contains(data, pattern)
		if object.Key == folder+"/manifests/"+string(c.UID) {
			keyID = hex.EncodeToString(data[16:32])
		}
	}
	return shows, keyID
}

// moveOn deletes a pod and, when its state is in the bucket and after change, makes it again on the other node, which has to fetch it.
func (w *workload) moveOn(t *testing.T, pod *corev1.Pod, change func()) *v1alpha1.Checkpoint {
	t.Helper()
	if err := w.c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, pod)
	checkpoint := w.checkpoint(t, pod, "is complete", isComplete)
	change()
	w.template.Spec = onNode(w.template.Spec, map[string]string{"worker-1": "worker-2", "worker-2": "worker-1"}[pod.Spec.NodeName])
	w.create(t)
	return checkpoint
}

// A location gets keys, which are rotated and lost: what is in the bucket shows nothing, and is restored for as long as its key is there.
func TestAStateIsEncryptedWithTheKeysOfItsLocation(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w := prepareWorkload(t, c, plainPod, nil)
	k := &keyring{w.ns, map[string][]byte{}}
	newArchive(t, k.name)
	w.capturing(t, func(p *v1alpha1.CheckpointPolicySpec) { p.StorageLocation = k.name })
	w.policy(t, v1alpha1.RestorePolicySpec{Fallback: v1alpha1.FallbackFail})
	w.create(t)
	pod := w.running(t, nil)
	pattern := randomBytes(64 << 10)
	put(t, c, pod, "/scratch/pattern", string(pattern)) // by way of the memory of testapp
	part, files := pattern[32<<10:][:64], map[string]string{"/scratch/pattern": string(pattern)}

	before := w.countOf(t, pod)
	plain := w.moveOn(t, pod, func() { k.use(t, c, "one") })
	if shows, keyID := k.stored(t, plain, part); !shows || keyID != fmt.Sprintf("%032d", 0) {
		t.Fatalf("without a key the pattern is to be seen: %t; the key of the manifest is %s", shows, keyID)
	}
	second := w.running(t, pod)
	before = w.goesOn(t, second, before, files)

	first := w.moveOn(t, second, func() { k.use(t, c, "two", "one") })
	shows, one := k.stored(t, first, part)
	if shows {
		t.Error("the bucket shows what is encrypted")
	}
	third := w.running(t, second)
	before = w.goesOn(t, third, before, files)

	last := w.moveOn(t, third, func() { k.use(t, c, "three") })
	if shows, two := k.stored(t, last, part); shows || one == two {
		t.Errorf("after the rotation the pattern is to be seen: %t; the keys are %s and %s", shows, one, two)
	}
	w.refused(t, third, keys.ColdEncryptionKeyMissing)
	k.use(t, c, "three", "two")
	w.goesOn(t, w.running(t, third), before, files)
}
