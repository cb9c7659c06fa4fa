package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

var update = flag.Bool("update", false, "write what the commands say now into testdata")

// testNow is the moment at which the tests look.
var testNow = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(testNow.Add(-d)) }

func owner(apiVersion, kind, name string) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID(name + "-uid"), Controller: new(true)}}
}

// pod is a labelled pod that runs, of an owner.
func pod(name string, owners []metav1.OwnerReference, conditions ...corev1.PodCondition) *corev1.Pod {
	labels := map[string]string{keys.CheckpointMode: keys.True, "app": "web"}
	switch {
	case len(owners) > 0 && owners[0].Kind == "ReplicaSet":
		labels[appsv1.DefaultDeploymentUniqueLabelKey] = "5c9d"
	case len(owners) > 0 && owners[0].Kind == "StatefulSet":
		labels[appsv1.ControllerRevisionHashLabelKey], labels[appsv1.StatefulSetPodNameLabel] = "db-1", name
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID(name + "-uid-0123"), OwnerReferences: owners, CreationTimestamp: ago(2 * time.Hour),
			Labels:      labels,
			Annotations: map[string]string{keys.Effective: `{"schemaVersion":1,"containers":["app"],"gracePeriodSeconds":120}`},
		},
		Spec: corev1.PodSpec{
			NodeName: "worker-1", RuntimeClassName: new(keys.RuntimeClass), Containers: []corev1.Container{{Name: "app", Image: "registry.test/web:1"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: conditions},
	}
}

func condition(kind corev1.PodConditionType, status corev1.ConditionStatus, reason, message string) corev1.PodCondition {
	return corev1.PodCondition{Type: kind, Status: status, Reason: reason, Message: message}
}

var (
	protected = condition(keys.Checkpointable, corev1.ConditionTrue, keys.CheckpointableProtected, "it is captured when it is terminated")
	restored  = condition(keys.Restored, corev1.ConditionTrue, keys.RestoredFromCheckpoint, "went on from Checkpoint web-older")
)

const instructions = "adx aes avx avx2 bmi1 bmi2 cmov cx16 cx8 fma fsgsbase fxsr movbe pclmulqdq popcnt rdrand rdseed sha_ni sse sse2 sse4_1 sse4_2 ssse3 xsave"

// checkpointOf is a complete Checkpoint that a pod left.
func checkpointOf(p *corev1.Pod, name string, taken time.Duration, change ...func(*v1alpha1.Checkpoint)) *v1alpha1.Checkpoint {
	own := lineage.Of(p)
	ready := func(kind, reason string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: reason, LastTransitionTime: ago(taken - 3*time.Second)}
	}
	c := &v1alpha1.Checkpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: name, UID: types.UID(name + "-uid"), CreationTimestamp: ago(taken + time.Second)},
		Spec: v1alpha1.CheckpointSpec{
			SourcePodName: p.Name, SourcePodUID: p.UID, Trigger: v1alpha1.TriggerDrain, PostCheckpoint: v1alpha1.PostCheckpointResume,
		},
		Status: v1alpha1.CheckpointStatus{
			Conditions: []metav1.Condition{ready(v1alpha1.CheckpointCaptured, "Completed"), ready(v1alpha1.CheckpointUploaded, "Completed"),
				ready(v1alpha1.CheckpointReady, v1alpha1.StateCompleted)},
			Source: &v1alpha1.CheckpointSource{
				PodUID: p.UID, Node: "worker-1", Owner: own.Owner, Lineage: own.Lineage, Identity: own.Identity, Labels: p.Labels,
			},
			CaptureTime: new(ago(taken)), SizeBytes: new(int64(269000000)), Frozen: &metav1.Duration{Duration: 412 * time.Millisecond}, LocationName: "main",
			ManifestDigest: "sha256:" + string(bytes.Repeat([]byte("0"), 64)),
			Containers:     []v1alpha1.CheckpointContainer{{Name: "app", Image: "registry.test/web:1", MemoryBytes: new(int64(268435456))}},
			Machine: &v1alpha1.CheckpointMachine{
				Architecture: "amd64", Kernel: "6.12.43+deb13-amd64", PageSizeBytes: 4096, XSaveBytes: 2696, ControlGroups: 2,
				Instructions: instructions,
			},
		},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// in has a Checkpoint be in another state.
func in(state, kind, reason, message string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		for i := range c.Status.Conditions {
			switch at := &c.Status.Conditions[i]; at.Type {
			case v1alpha1.CheckpointReady:
				at.Status, at.Reason, at.Message = metav1.ConditionFalse, state, message
			case kind:
				at.Status, at.Reason, at.Message = metav1.ConditionFalse, reason, message
			}
		}
	}
}

func failed(c *v1alpha1.Checkpoint) {
	const message = "container \"app\": Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option."
	in(v1alpha1.StateFailed, v1alpha1.CheckpointCaptured, v1alpha1.ReasonDumpFailed, message)(c)
	c.Status.CaptureTime, c.Status.SizeBytes, c.Status.Frozen, c.Status.LocationName, c.Status.ManifestDigest = nil, nil, nil, "", ""
	c.Status.LogTail = "(00.012345) Dumping task 17\n(00.012400) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option."
}

func consumedBy(name string) func(*v1alpha1.Checkpoint) {
	return func(c *v1alpha1.Checkpoint) {
		c.Status.Claim = &v1alpha1.CheckpointClaim{PodUID: types.UID(name + "-uid-0123"), PodName: name, Node: "worker-2", Phase: v1alpha1.ClaimConsumed}
	}
}

func pinnedLive(c *v1alpha1.Checkpoint) {
	c.Labels = map[string]string{keys.CheckpointPin: keys.True}
	c.Spec.Trigger = v1alpha1.TriggerInterval
}

// shop is a namespace in which all sorts of things have happened.
func shop() []client.Object {
	set := owner("apps/v1", "ReplicaSet", "web-5c9d")
	web, old := pod("web-5c9d-a", set, protected, restored), pod("web-5c9d-x", set)
	db, batch := pod("db-0", owner("apps/v1", "StatefulSet", "db")), pod("train-7", owner("batch/v1", "Job", "train"))
	location := &v1alpha1.CheckpointStorageLocation{
		ObjectMeta: metav1.ObjectMeta{Name: "main"},
		Spec:       v1alpha1.CheckpointStorageLocationSpec{Endpoint: "https://s3.test", Bucket: "states", Role: v1alpha1.RoleDefault},
		Status: v1alpha1.CheckpointStorageLocationStatus{
			Conditions:         []metav1.Condition{{Type: v1alpha1.LocationAvailable, Status: metav1.ConditionTrue, Reason: v1alpha1.LocationValidated}},
			LastValidationTime: new(ago(time.Minute)),
		},
	}
	nodes := func(name, ready, kernel string) *corev1.Node {
		facts := `{"architecture":"amd64","kernel":"` + kernel + `","pageSize":4096,"xsave":2696,"instructions":"` + instructions + `"}`
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{keys.NodeReady: ready}, Annotations: map[string]string{keys.NodeFacts: facts},
		}}
	}
	return []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "checkpoint-system", Name: operator.ConfigMap}},
		&appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-5c9d", UID: "web-5c9d-uid", OwnerReferences: owner("apps/v1", "Deployment", "web"),
		}},
		location, nodes("worker-1", keys.True, "6.12.43+deb13-amd64"), nodes("worker-2", keys.True, "6.1.0-40-amd64"), nodes("worker-3", "", "6.12.43"),
		web,
		pod("web-5c9d-b", set,
			condition(keys.Checkpointable, corev1.ConditionFalse, keys.UnprotectedDeviceInUse, "container app: process 17 (python) has /dev/fuse open"),
			condition(keys.Restored, corev1.ConditionFalse, keys.ColdTemplateChanged, "there are Checkpoints of revision 4 of Deployment web, and it is of revision 5")),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "plain", UID: "plain-uid"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		checkpointOf(old, "web-5c9d-x-0123", 3*time.Minute),
		checkpointOf(pod("web-5c9d-w", set), "web-older", 2*time.Hour, consumedBy("web-5c9d-a")),
		checkpointOf(web, "web-5c9d-a-live", 10*time.Minute, pinnedLive),
		checkpointOf(db, "db-0-0123", time.Minute,
			in(v1alpha1.StateUploading, v1alpha1.CheckpointUploaded, v1alpha1.ReasonStorageUnavailable, "dial tcp: i/o timeout")),
		checkpointOf(batch, "train-7-0123", 5*time.Minute, failed),
		&corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: "shop", Name: "e1"},
			InvolvedObject: corev1.ObjectReference{UID: "train-7-0123-uid"}, LastTimestamp: ago(5 * time.Minute),
			Type: "Warning", Reason: "CaptureFailed", Message: "CRIU refused",
		},
	}
}

// says runs a command in the shop, and returns what it writes.
func says(t *testing.T, k client.Client, words ...string) (out, errOut string, err error) {
	t.Helper()
	streams, _, stdout, stderr := genericiooptions.NewTestIOStreams()
	root, c := newRoot(streams)
	c.fake, c.now = k, func() time.Time { return testNow }
	root.SetArgs(append([]string{"--namespace=shop"}, words...))
	err = root.ExecuteContext(context.Background())
	return stdout.String(), stderr.String(), err
}

func newShop(t *testing.T) client.Client {
	t.Helper()
	return fake.NewClientBuilder().WithScheme(newScheme()).WithObjects(shop()...).
		WithStatusSubresource(&v1alpha1.Checkpoint{}, &v1alpha1.RestorePolicy{}, &corev1.Pod{}).Build()
}

// golden compares what a command says with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}
