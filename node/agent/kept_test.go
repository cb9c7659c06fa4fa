package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

const keptLine = "1234abcd"

var keptFile = capture.KeptFile{
	Name: "a." + keptLine + ".20261124T120000-1.tar.zst", SizeBytes: 100, ContentBytes: 1000, Digest: "sha256:" + strings.Repeat("a", 64),
}

// storing has a pod keep its states in a claim.
func storing(p *corev1.Pod) {
	p.Annotations[keys.Effective] = `{"schemaVersion":1,"containers":["app"],"storageVolume":` +
		`{"name":"data","kind":"PersistentVolumeClaim","source":"states","mounts":{"app":"/data"}}}`
}

// keptCapture makes the folder of a capture of a pod with a storage volume, as the runtime leaves it.
func (b *bench) keptCapture(pod *corev1.Pod, change func(*capture.Capture)) (dir string) {
	b.t.Helper()
	dir = b.captured(pod, "1", capture.Complete)
	record, err := capture.Read(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	if record.Settings, err = capture.ParseSettings(pod.Annotations[keys.Effective]); err != nil {
		b.t.Fatal(err)
	}
	record.Timings.Volume = 2 * time.Second
	change(record)
	if err := record.Write(dir); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

func inVolume(r *capture.Capture) { kept := keptFile; r.Kept = &kept }

func volumeIsFull(r *capture.Capture) {
	r.NotKept = `volume "data" (PersistentVolumeClaim states): no space left on device`
}

// said are the events so far.
func (b *bench) said() (all []string) {
	for {
		select {
		case event := <-b.Recorder.(*events.FakeRecorder).Events:
			all = append(all, event)
		default:
			return all
		}
	}
}

func TestWhatAVolumeKeepsIsPublishedWithoutABucket(t *testing.T) {
	pod := newPod("a", storing)
	b := noted(t, pod)
	if err := b.Client.Delete(t.Context(), &v1alpha1.CheckpointStorageLocation{ObjectMeta: metav1.ObjectMeta{Name: "main"}}); err != nil {
		t.Fatal(err)
	}
	dir := b.keptCapture(pod, inVolume)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	is(t, c, v1alpha1.CheckpointCaptured, metav1.ConditionTrue, v1alpha1.StateCompleted, `safe in volume "data" (PersistentVolumeClaim states)`)
	is(t, c, v1alpha1.CheckpointUploaded, metav1.ConditionTrue, v1alpha1.StateCompleted,
		`kept in volume "data" (PersistentVolumeClaim states), 100 in 2s, and in no bucket`)
	want := &v1alpha1.CheckpointVolume{
		Name: "data", Kind: v1alpha1.VolumePersistentVolumeClaim, Source: "states", File: keptFile.Name, SizeBytes: 100, ContentBytes: 1000,
		Digest: keptFile.Digest,
	}
	if diff := cmp.Diff(want, c.Status.Volume); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if c.Status.LocationName != "" || c.Status.ManifestDigest != "" || len(c.Status.Containers) != 1 || len(b.store.keys("")) > 0 {
		t.Errorf("its status is %+v, the bucket has %v", c.Status, b.store.keys(""))
	}
	if said := b.said(); !slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, "Normal KeptInVolume kept in volume") }) {
		t.Errorf("the events are %q", said)
	}
	if !isUploadedFrom(dir) {
		t.Error("what is on the node does not go when its disk needs the room")
	}
	b.now = b.now.Add(cacheTime + time.Minute)
	if b.look(dir); isThere(dir) {
		t.Error("what is on the node stays for longer than it is of use")
	}
	if b.checkpoint("a-a-uid").Status.Volume == nil {
		t.Error("it is forgotten where the state is")
	}
}

// What the volume has is published, and what is on the node goes, of which the power cut may have taken a part.
func TestAStateInAVolumeIsPublishedAfterAPowerCut(t *testing.T) {
	pod := newPod("a", storing)
	b := noted(t, pod)
	b.boots("first")
	dir := b.keptCapture(pod, inVolume)
	if err := os.Remove(filepath.Join(dir, capture.SyncedFile)); err != nil {
		t.Fatal(err)
	}
	b.tear(dir)
	b.boots("second")
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	if !isTrue(c, v1alpha1.CheckpointUploaded) || c.Status.Volume == nil || b.localState(c) != "" {
		t.Errorf("its status is %+v, and it is restored from %q", c.Status, b.localState(c))
	}
	if b.look(dir); isThere(dir) {
		t.Error("its folder is still there")
	}
}

func TestWhatAVolumeDoesNotTakeGoesToTheBucket(t *testing.T) {
	pod := newPod("a", storing)
	b := noted(t, pod)
	dir := b.keptCapture(pod, volumeIsFull)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	const why = `volume "data" (PersistentVolumeClaim states): no space left on device`
	is(t, c, v1alpha1.CheckpointCaptured, metav1.ConditionTrue, v1alpha1.StateCompleted, "safe in the bucket; it is not in "+why)
	if c.Status.Volume != nil || c.Status.LocationName != "main" || c.Status.ManifestDigest == "" {
		t.Errorf("its status is %+v", c.Status)
	}
	told := slices.DeleteFunc(b.said(), func(s string) bool { return !strings.Contains(s, "NotKeptInVolume") })
	if len(told) != 2 || !strings.HasPrefix(told[0], "Warning NotKeptInVolume the state is not kept in "+why) { // of Checkpoint and pod
		t.Errorf("the events are %q", told)
	}
}

func TestWhatNeitherVolumeNorBucketTakesStaysOnTheNode(t *testing.T) {
	pod := newPod("a", storing)
	b := noted(t, pod)
	if err := b.Client.Delete(t.Context(), &v1alpha1.CheckpointStorageLocation{ObjectMeta: metav1.ObjectMeta{Name: "main"}}); err != nil {
		t.Fatal(err)
	}
	dir := b.keptCapture(pod, volumeIsFull)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	is(t, c, v1alpha1.CheckpointCaptured, metav1.ConditionTrue, v1alpha1.StateCompleted,
		`safe on node worker-1; it is not in volume "data" (PersistentVolumeClaim states): no space left on device`)
	if s := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointStalled); s == nil || s.Reason != v1alpha1.ReasonNoStorageLocation {
		t.Errorf("Stalled is %+v", s)
	}
	if !isThere(dir) || isUploadedFrom(dir) {
		t.Error("the only copy is gone, or may go")
	}
}

// decides has the agent of a node decide about the successor of a pod whose state is kept in a volume.
func decides(t *testing.T, pod *corev1.Pod, local bool) *capture.Decision {
	t.Helper()
	next := newPod("b", pending, storing)
	b := newBench(t, next)
	if err := b.takeNote(pod); err != nil {
		t.Fatal(err)
	}
	dir := b.keptCapture(pod, inVolume)
	b.look(dir)
	if !local {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		b.reconcile(next)
	}
	d := b.decision(next)
	c := &v1alpha1.Checkpoint{}
	if err := b.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "a-a-uid"}, c); err != nil {
		t.Fatal(err)
	}
	if claim := c.Status.Claim; claim == nil || claim.PodUID != next.UID {
		t.Errorf("its claim is %+v", claim)
	}
	if local != isThere(filepath.Join(d.Directory, capture.FileName)) {
		t.Errorf("the state is there: %t", !local)
	}
	return d
}

func TestTheRuntimeBringsWhatAVolumeKeeps(t *testing.T) {
	d := decides(t, newPod("a", storing), false)
	if d.Action != capture.Restore || d.KeptLine != keptLine {
		t.Errorf("the decision is %+v", d)
	}
	if diff := cmp.Diff(&keptFile, d.Kept); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"app"}, d.Containers); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatIsOnTheNodeServesBeforeTheVolume(t *testing.T) {
	if d := decides(t, newPod("a", storing), true); d.Action != capture.Restore || d.Kept != nil || d.KeptLine != keptLine {
		t.Errorf("the decision is %+v", d)
	}
}
