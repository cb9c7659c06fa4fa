package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/criu"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/storage"
)

// is compares a condition of a Checkpoint, but for its time.
func is(t *testing.T, c *v1alpha1.Checkpoint, kind string, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	got := meta.FindStatusCondition(c.Status.Conditions, kind)
	want := &metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(metav1.Condition{}, "LastTransitionTime")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func isTrue(c *v1alpha1.Checkpoint, kind string) bool {
	return meta.IsStatusConditionTrue(c.Status.Conditions, kind)
}

func folder(c *v1alpha1.Checkpoint) string {
	return keys.StorageFolder(c.Namespace, c.Status.Source.Lineage)
}

// noted is a bench whose agent has seen the pod while it lived; it is gone by now.
func noted(t *testing.T, pod *corev1.Pod) *bench {
	t.Helper()
	b := newBench(t)
	if err := b.takeNote(pod); err != nil {
		t.Fatal(err)
	}
	return b
}

// A node that goes down may lose its copy of what the bucket has, and say so: the state is none the less there.
func TestWhatTheBucketHasDoesNotFailAfterwards(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	record, err := capture.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	record.State, record.Failure = capture.Failed, &capture.Failure{Reason: capture.ReasonInterrupted, Message: "it was not on the disk when the node went down"}
	if err := errors.Join(record.Write(dir), os.Remove(filepath.Join(dir, capture.UploadedFile))); err != nil {
		t.Fatal(err)
	}
	b.look(dir)
	if isThere(dir) {
		t.Error("the folder stays")
	}
	if c := b.checkpoint("a-a-uid"); !isTrue(c, v1alpha1.CheckpointUploaded) || !isTrue(c, v1alpha1.CheckpointCaptured) || c.Status.ManifestDigest == "" {
		t.Errorf("it says %+v", c.Status)
	}
}

func TestAFailedCaptureIsPublishedAndRemoved(t *testing.T) {
	pod := newPod("a") // it runs on
	b := newBench(t, pod)
	if err := b.takeNote(pod); err != nil {
		t.Fatal(err)
	}
	dir := b.captured(pod, "1", capture.Failed)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	is(t, c, v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.ReasonDumpFailed, refusal+". "+criu.Advise(criu.Dump, refusal))
	is(t, c, v1alpha1.CheckpointUploaded, metav1.ConditionFalse, v1alpha1.ReasonCaptureFailed, "there is nothing to upload")
	if c.Status.LogTail != "the end of the log" || c.Status.CaptureTime != nil {
		t.Errorf("its log is %q, its time %v", c.Status.LogTail, c.Status.CaptureTime)
	}
	if isThere(dir) {
		t.Error("its folder is still there")
	}
}

func TestACompleteCaptureIsPublishedAndUploaded(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	if !isTrue(c, v1alpha1.CheckpointCaptured) || !isTrue(c, v1alpha1.CheckpointUploaded) {
		t.Errorf("its conditions are %+v", c.Status.Conditions)
	}
	cut := metav1.NewTime(testNow.Add(-time.Minute + time.Second))
	want := v1alpha1.CheckpointStatus{
		Source: &v1alpha1.CheckpointSource{PodUID: "a-uid", Node: "worker-1", Owner: c.Status.Source.Owner, Lineage: c.Labels["checkpoint.memverge.ai/lineage"],
			Labels: pod.Labels},
		Containers: []v1alpha1.CheckpointContainer{{Name: "app", Image: "app:1"}}, CaptureTime: &cut, SizeBytes: new(int64(1 << 20)),
		Frozen: v1alpha1.ReadableDuration(time.Second), LocationName: "main",
	}
	ignored := cmpopts.IgnoreFields(v1alpha1.CheckpointStatus{}, "Conditions", "Size", "ManifestDigest")
	if diff := cmp.Diff(want, c.Status, ignored); diff != "" {
		t.Errorf("status (-want +got)\n%s", diff)
	}
	if !strings.HasPrefix(c.Status.ManifestDigest, "sha256:") || len(b.store.keys(folder(c))) == 0 {
		t.Errorf("the manifest is %q, the bucket has %v", c.Status.ManifestDigest, b.store.keys(""))
	}

	b.now = b.now.Add(cacheTime - time.Minute)
	if b.look(dir); !isThere(dir) {
		t.Error("its folder is gone, a restore on this node would have to fetch it")
	}
	b.now = b.now.Add(2 * time.Minute)
	if b.look(dir); isThere(dir) {
		t.Error("its folder stays for longer than it is of use")
	}
	if len(b.store.keys(folder(c))) == 0 {
		t.Error("what was uploaded is gone with the folder")
	}
}

func TestAnUploadIsTriedAgain(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.store.broken = storage.ErrUnavailable
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	is(t, c, v1alpha1.CheckpointCaptured, metav1.ConditionTrue, v1alpha1.StateCompleted, "safe on node worker-1")
	u := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointUploaded)
	if u.Status != metav1.ConditionFalse || u.Reason != v1alpha1.ReasonStorageUnavailable || !strings.Contains(u.Message, storage.ErrUnavailable.Error()) {
		t.Errorf("Uploaded is %+v", u)
	}
	if !isThere(dir) {
		t.Fatal("the only copy is gone")
	}
	for _, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, longestWait, longestWait} {
		b.now = b.now.Add(wait - time.Millisecond)
		b.store.calls = 0
		if b.look(dir); b.store.calls > 0 {
			t.Errorf("it is tried again before %s are over", wait)
		}
		b.now = b.now.Add(time.Millisecond)
		if b.look(dir); b.store.calls == 0 {
			t.Errorf("it is not tried again after %s", wait)
		}
	}
	b.store.broken = nil
	b.now = b.now.Add(longestWait)
	b.look(dir)
	if c := b.checkpoint("a-a-uid"); c.Status.ManifestDigest == "" || !isTrue(c, v1alpha1.CheckpointUploaded) {
		t.Errorf("it is not tried again: %+v", c.Status.Conditions)
	}
}

func TestAStateIsSentWhileTheDiskCatchesUp(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	b.boots("first")
	dir := b.captured(pod, "1", capture.Complete)
	if err := os.Remove(filepath.Join(dir, capture.SyncedFile)); err != nil {
		t.Fatal(err)
	}
	b.lock("a-uid")
	b.store.broken = storage.ErrUnavailable
	b.look(dir)
	is(t, b.checkpoint("a-a-uid"), v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.StateDumping,
		"written, on its way to the disk of node worker-1")
	b.store.broken = nil
	b.now = b.now.Add(time.Second)
	b.look(dir)
	if c := b.checkpoint("a-a-uid"); !isTrue(c, v1alpha1.CheckpointCaptured) || !isTrue(c, v1alpha1.CheckpointUploaded) {
		t.Errorf("its conditions are %+v", c.Status.Conditions)
	}
}

func TestAConsumedStateDoesNotStayOnTheNode(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	if err := b.consume(t.Context(), newPod("new"), b.checkpoint("a-a-uid"), ""); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(cacheInterval)
	if b.look(dir); isThere(dir) {
		t.Error("its folder is still there")
	}
}

func TestWithoutALocationTheUploadIsStalled(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	location := &v1alpha1.CheckpointStorageLocation{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	if err := b.Client.Delete(t.Context(), location); err != nil {
		t.Fatal(err)
	}
	b.look(b.captured(pod, "1", capture.Complete))
	is(t, b.checkpoint("a-a-uid"), v1alpha1.CheckpointStalled, metav1.ConditionTrue, v1alpha1.ReasonNoStorageLocation,
		"no CheckpointStorageLocation has the role Default; the state stays on the node until there is one")
}

func TestACaptureWhoseCheckpointWasDeletedIsWithdrawn(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	c.Finalizers = nil
	if err := b.Client.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := b.Client.Delete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b.write(filepath.Join(dir, memoFile), `{"checkpointUID": "`+string(c.UID)+`", "location": "main", "folder": "`+folder(c)+`"}`) // the upload was cut off
	b.look(dir)
	if isThere(dir) || len(b.store.keys("")) > 0 || b.checkpoints() > 0 {
		t.Errorf("folder there: %t, bucket: %v, Checkpoints: %d", isThere(dir), b.store.keys(""), b.checkpoints())
	}
}

func TestAWithdrawalHoldsNobodyUp(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	c.Finalizers = nil
	if err := errors.Join(b.Client.Update(t.Context(), c), b.Client.Delete(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	b.write(filepath.Join(dir, capture.DiscardedFile), "the pod went on") // which is no reason to leave anything in the bucket
	answers := make(chan error)
	b.store.before = func(context.Context, string, string) {
		if err, more := <-answers; more {
			b.store.broken = err
		}
	}
	b.Agent.look(t.Context(), dir, nil)
	if !b.isBusy(dir) {
		t.Fatal("nothing is deleted")
	}
	answers <- storage.ErrUnavailable
	for b.isBusy(dir) {
		time.Sleep(time.Millisecond)
	}
	close(answers)
	b.store.broken = nil
	if b.look(dir); !isThere(dir) || len(b.store.keys("")) == 0 {
		t.Error("it is tried again at once, or not at all")
	}
	b.now = b.now.Add(time.Second)
	b.work = map[string]*publication{} // the agent was killed
	if b.look(dir); isThere(dir) || len(b.store.keys("")) > 0 {
		t.Errorf("folder there: %t, bucket: %v", isThere(dir), b.store.keys(""))
	}
}

func TestWhatIsNotToBePublished(t *testing.T) {
	ended := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	finalized := func(p *corev1.Pod) { p.Finalizers = []string{"test/kept"} }
	for what, test := range map[string]struct {
		pod       *corev1.Pod
		folder    string
		state     capture.State
		discarded string // what the runtime says of it
		left      bool   // the folder
		published bool
	}{
		"its pod still runs":               {pod: newPod("a"), folder: "1", state: capture.Complete, left: true},
		"its pod goes":                     {pod: newPod("a", finalized, going), folder: "1", state: capture.Complete, left: true, published: true},
		"its pod was evicted":              {pod: newPod("a", evicted), folder: "1", state: capture.Complete, left: true, published: true},
		"its pod ended by itself":          {pod: newPod("a", ended), folder: "1", state: capture.Complete},
		"its pod went on":                  {pod: newPod("a"), folder: "1", state: capture.Complete, discarded: "the pod went on"},
		"it is under way, its pod goes":    {pod: newPod("a", finalized, going), folder: "1.partial", state: capture.Dumping, left: true, published: true},
		"it is under way, its pod runs":    {pod: newPod("a"), folder: "1.partial", state: capture.Dumping, left: true},
		"it is under way, its pod ended":   {pod: newPod("a", ended), folder: "1.partial", state: capture.Dumping, left: true},
		"it is under way and not wanted":   {pod: newPod("a"), folder: "1.partial", state: capture.Dumping, discarded: "the pod went on", left: true},
		"it failed and has no name yet":    {pod: newPod("a"), folder: "1.partial", state: capture.Failed, left: true},
		"it is complete, with no name yet": {pod: newPod("a", finalized, going), folder: "1.partial", state: capture.Complete, left: true},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, test.pod)
			if err := b.takeNote(test.pod); err != nil {
				t.Fatal(err)
			}
			dir := b.captured(test.pod, test.folder, test.state)
			b.lock("a-uid")
			if test.discarded != "" {
				b.write(filepath.Join(dir, capture.DiscardedFile), test.discarded)
			}
			b.look(dir)
			if isThere(dir) != test.left {
				t.Errorf("the folder is there: %t", isThere(dir))
			}
			if published := b.checkpoints() > 0; published != test.published {
				t.Errorf("it is published: %t", published)
			}
			if test.state == capture.Dumping && test.published {
				is(t, b.checkpoint("a-a-uid"), v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.StateDumping,
					"the pod is frozen and is being written to the node's disk")
			}
		})
	}
}

func TestAFolderIsRemovedOverWhatAKilledAgentLeft(t *testing.T) {
	b := newBench(t)
	b.captured(newPod("a"), "removed-1", capture.Complete)
	dir := b.captured(newPod("a"), "1", capture.Complete) // the runtime has used the number again
	if err := b.remove(dir); err != nil {
		t.Fatal(err)
	}
	if left := filesIn(t, filepath.Dir(dir)); len(left) > 0 {
		t.Errorf("there are still %v", left)
	}
}

func TestAPublishedCaptureIsDiscarded(t *testing.T) {
	pod := newPod("a")
	b := newBench(t, pod)
	c, source := lineage.TerminationCheckpoint(pod)
	if err := b.Client.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c.Status = v1alpha1.CheckpointStatus{Source: &source, Conditions: []metav1.Condition{
		{Type: v1alpha1.CheckpointCaptured, Status: metav1.ConditionFalse, Reason: v1alpha1.StateDumping},
	}}
	if err := b.Client.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	dir := b.captured(pod, "1", capture.Complete)
	b.write(filepath.Join(dir, capture.DiscardedFile), "the pod went on\n")
	b.look(dir)
	is(t, b.checkpoint(c.Name), v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.StateDiscarded, "the pod went on")
	if isThere(dir) {
		t.Error("its folder is still there")
	}
}

func TestTheRuntimeSettlesWhatWasCutOff(t *testing.T) {
	pod := newPod("a")
	b := newBench(t, pod)
	settled := ""
	b.Settle = func(_ context.Context, podUID string) error { settled = podUID; return nil }
	dir := b.captured(pod, "1.partial", capture.Dumping)
	b.look(dir)
	if settled != "" {
		t.Error("at once, while the runtime may not have its lock yet")
	}
	b.now = b.now.Add(settleAfter)
	b.look(dir)
	if settled != "a-uid" || !isThere(dir) {
		t.Errorf("settled %q, folder there: %t", settled, isThere(dir))
	}
}

func TestACaptureOfAPodThatNobodySawStandsAlone(t *testing.T) {
	pod := newPod("a")
	b := newBench(t)
	b.look(b.captured(pod, "1", capture.Complete))
	c := b.checkpoint("a-a-uid")
	if len(c.OwnerReferences) != 0 || c.Status.Source.Lineage != "unknown-a-uid" || c.Status.Source.Node != "worker-1" {
		t.Errorf("owners %v, source %+v", c.OwnerReferences, c.Status.Source)
	}
}

// The node lost its power before a capture was on its disk. While the runtime says so, which empties the folder, nothing of it may be sent: a pod would be
// restored from nothing.
func TestWhatThePowerCutTookIsNotUploaded(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	b.boots("first")
	dir := b.captured(pod, "1", capture.Complete)
	if err := os.Remove(filepath.Join(dir, capture.SyncedFile)); err != nil {
		t.Fatal(err)
	}
	b.boots("second")
	b.lock(string(pod.UID))
	b.look(dir)
	if keys := b.store.keys(""); len(keys) > 0 || b.checkpoints() > 0 {
		t.Errorf("it is published, and the bucket has %v", keys)
	}
}

func TestWhatIsNotCompleteAnyMoreIsNotUploaded(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.store.before = func(_ context.Context, call, key string) {
		if call == "Put" && strings.Contains(key, "/packs/") {
			record, err := capture.Read(dir)
			if err != nil {
				t.Error(err)
				return
			}
			record.State, record.Containers = capture.Failed, nil
			if err := record.Write(dir); err != nil {
				t.Error(err)
			}
		}
	}
	b.look(dir)
	if isTrue(b.checkpoint("a-a-uid"), v1alpha1.CheckpointUploaded) {
		t.Error("its Checkpoint says that it is uploaded")
	}
}
