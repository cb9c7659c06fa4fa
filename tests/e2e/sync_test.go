package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// Everything that the cluster knew of a state is gone, as in another cluster: the pod, its owner, the Checkpoint, what its node had. The bucket has it.
func TestAPodIsRestoredFromABucketThatNobodyKnew(t *testing.T) {
	for name, test := range map[string]struct {
		kind  string
		named bool
	}{
		"a plain pod by itself":                                 {kind: plainPod},
		"a StatefulSet's, of another UID, as a policy names it": {kind: statefulSet, named: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := labelled(t)
			w := prepareWorkload(t, c, test.kind, nil)
			location := w.ns
			newArchive(t, location)
			w.capturing(t, func(p *v1alpha1.CheckpointPolicySpec) { p.StorageLocation = location })
			w.policy(t, v1alpha1.RestorePolicySpec{Mode: v1alpha1.RestoreDisabled})
			w.create(t)
			first := w.running(t, nil)
			put(t, c, first, "/scratch/one", "1")
			before := waitForCount(t, c, first, 20)
			if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), first.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			w.awaitGone(t, first)
			was := w.checkpoint(t, first, "is complete", isComplete)
			changeLocation(t, location, `{"accessMode":"ReadOnly"}`)
			w.forget(t, was)

			changeLocation(t, location, `{"syncInterval":"1m"}`)
			now := w.checkpoint(t, first, "is made anew", func(c *v1alpha1.Checkpoint) error {
				if c.Status.StorageName != string(was.UID) || c.UID == was.UID || c.Status.ManifestDigest != was.Status.ManifestDigest {
					return fmt.Errorf("it is %+v", c)
				}
				return isComplete(c)
			})
			policy := map[string]any{"mode": "Enabled"}
			if test.named {
				policy["source"], policy["checkpointName"] = "Named", now.Name
			}
			w.changePolicy(t, policy)
			w.create(t)
			next := w.running(t, first)
			w.goesOn(t, next, before, map[string]string{"/scratch/one": "1"})
		})
	}
}

// forget deletes the owner of a Checkpoint and the Checkpoint itself, of a location that is only read by now.
func (w *workload) forget(t *testing.T, c *v1alpha1.Checkpoint) {
	t.Helper()
	checkpoints := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns)
	err := checkpoints.Delete(t.Context(), c.Name, metav1.DeleteOptions{})
	if w.kind == statefulSet {
		err = errors.Join(err, w.c.Client.AppsV1().StatefulSets(w.ns).Delete(t.Context(), workloadName, metav1.DeleteOptions{}))
	}
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, "pods and Checkpoints are gone", func() error {
		pods, err := w.c.Client.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("pod %s is there", pods.Items[0].Name)
		}
		if err != nil {
			return err
		}
		_, err = checkpoints.Get(t.Context(), c.Name, metav1.GetOptions{})
		if err == nil {
			return errors.New("the Checkpoint is there")
		}
		return client.IgnoreNotFound(err)
	})
	lab.Eventually(t, time.Minute, "its node has forgotten it", func() error {
		there := w.c.OnNode(t, c.Status.Source.Node, "ls -d /var/lib/checkpoint/captures/"+string(c.Status.Source.PodUID)+"/[0-9]* 2>/dev/null || true")
		if there != "" {
			return fmt.Errorf("it has %s", there)
		}
		return nil
	})
}

// changeLocation merges fields into the spec of a location.
func changeLocation(t *testing.T, name, spec string) {
	t.Helper()
	locations := operator.Checkpoints.CheckpointV1alpha1().CheckpointStorageLocations()
	if _, err := locations.Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec":`+spec+`}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}
