package stored

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

func example() *v1alpha1.Checkpoint {
	cut := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Local())
	return &v1alpha1.Checkpoint{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-1234", UID: "u", ResourceVersion: "7",
			Labels:          map[string]string{keys.Lineage: "one", keys.Workload: "deployment", "mine": "x"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-5d9"}},
		},
		Spec: v1alpha1.CheckpointSpec{SourcePodName: "web", SourcePodUID: "1234", Trigger: v1alpha1.TriggerTermination},
		Status: v1alpha1.CheckpointStatus{
			Source: &v1alpha1.CheckpointSource{PodUID: "1234", Node: "worker-1", Lineage: "one", Labels: map[string]string{"app": "web"},
				Owner: &v1alpha1.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d9", UID: "owner"}},
			Containers: []v1alpha1.CheckpointContainer{{Name: "app", Image: "app:1", MemoryBytes: new(int64(9))}},
			Machine:    &v1alpha1.CheckpointMachine{Architecture: "amd64", Kernel: "6.12", PageSizeBytes: 4096},
			SizeBytes:  new(int64(300 << 20)), Size: v1alpha1.ReadableSize(300 << 20), Frozen: v1alpha1.ReadableDuration(412 * time.Millisecond), CaptureTime: &cut,
			LocationName: "main", ManifestDigest: "sha256:00", StorageName: "other", LogTail: "log",
			Claim:      &v1alpha1.CheckpointClaim{PodUID: "next", Phase: v1alpha1.ClaimConsumed},
			Conditions: []metav1.Condition{{Type: v1alpha1.CheckpointReady}},
		},
	}
}

func encode(t testing.TB, c *v1alpha1.Checkpoint) []byte {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestACheckpointIsMadeAnewFromItsFile(t *testing.T) {
	got, err := Decode(encode(t, Checkpoint(example())), "shop", "one")
	if err != nil {
		t.Fatal(err)
	}
	want := Checkpoint(example())
	want.Labels = map[string]string{keys.Lineage: "one", keys.Workload: "deployment", keys.PodUID: "1234"}
	want.Finalizers = []string{keys.CheckpointFinalizer}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s := got.Status
	if len(got.OwnerReferences) > 0 || s.Claim != nil || s.LocationName != "" || s.ManifestDigest != "" || s.StorageName != "" || s.Conditions != nil {
		t.Errorf("it takes more along than was captured: %+v", got)
	}
}

func TestWhatIsNoCheckpointOfItsFolderIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*v1alpha1.Checkpoint)
		want   string
	}{
		"another kind": {
			func(c *v1alpha1.Checkpoint) { c.Kind = "Secret" },
			`it is a "Secret" of "checkpoint.memverge.ai/v1alpha1"; it may be a "Checkpoint" of "checkpoint.memverge.ai/v1alpha1"`,
		},
		"another version": {
			func(c *v1alpha1.Checkpoint) { c.APIVersion = "checkpoint.memverge.ai/v9" }, `it is a "Checkpoint" of "checkpoint.memverge.ai/v9"; it may be`,
		},
		"no object at all": {func(c *v1alpha1.Checkpoint) { c.TypeMeta = metav1.TypeMeta{} }, `it is a "" of ""`},
		"another namespace": {
			func(c *v1alpha1.Checkpoint) { c.Namespace = "kube-system" }, `metadata.namespace is "kube-system"; it lies in the folder of "shop"`,
		},
		"another lineage": {
			func(c *v1alpha1.Checkpoint) { c.Status.Source.Lineage = "two" }, `status.source.lineage is "two"; it lies in the folder of "one"`,
		},
		"no source": {func(c *v1alpha1.Checkpoint) { c.Status.Source = nil }, "it says no status.source"},
		"no time":   {func(c *v1alpha1.Checkpoint) { c.Status.CaptureTime = nil }, "it says no status.captureTime"},
		"two pods in one": {
			func(c *v1alpha1.Checkpoint) { c.Spec.SourcePodUID = "5678" },
			`spec.sourcePodUID is "5678", and status.source.podUID "1234"; both may be the same`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := Checkpoint(example())
			c.Status.Source = c.Status.Source.DeepCopy()
			test.change(c)
			if _, err := Decode(encode(t, c), "shop", "one"); err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("it says %v; it should say %s", err, test.want)
			}
		})
	}
	if _, err := Decode([]byte("{"), "shop", "one"); err == nil {
		t.Error("half a file is taken for one")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, Checkpoint(example())))
	f.Add([]byte(`{"kind":"Checkpoint","apiVersion":"checkpoint.memverge.ai/v1alpha1","metadata":{"namespace":"shop"},"status":{"source":{"lineage":"one"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Decode(data, "shop", "one")
		if err != nil {
			return
		}
		if c.Namespace != "shop" || c.Status.Source.Lineage != "one" || c.Status.ManifestDigest != "" || c.Status.Claim != nil || len(c.OwnerReferences) > 0 {
			t.Errorf("it is %+v", c)
		}
		again, err := Decode(encode(t, c), "shop", "one")
		if err != nil {
			t.Fatalf("what comes out does not go in: %v", err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Errorf("what comes out is not what goes in:\n%s", diff)
		}
	})
}
