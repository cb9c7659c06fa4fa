package agent

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestTheLaterOfTwoCapturesIsTheCheckpoint(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	begun := make(chan struct{})
	b.store.before = func(ctx context.Context, call, key string) {
		if call == "Put" && strings.Contains(key, "/packs/") {
			b.store.before = nil
			close(begun)
			<-ctx.Done() // it hangs
		}
	}
	slots, first := newSlots(2), b.captured(pod, "1", capture.Complete)
	b.Agent.look(t.Context(), first, slots)
	<-begun
	second := b.captured(pod, "2", capture.Complete)
	b.write(filepath.Join(second, "containers/app/criu/pages-1.img"), "later")
	b.Agent.look(t.Context(), second, slots)
	if b.work[second].busy {
		t.Fatal("both are sent at once")
	}
	b.Agent.look(t.Context(), first, slots) // stops it
	b.awaitUploads(slots)
	b.Agent.look(t.Context(), first, slots)
	if isThere(first) {
		t.Error("the earlier one is still there")
	}
	b.look(second)
	successor := newPod("new")
	if err := b.remove(second); err != nil {
		t.Fatal(err)
	}
	c := b.checkpoint("a-a-uid")
	if _, err := b.fetch(t.Context(), successor, c); err != nil {
		t.Fatal(err)
	}
	if got := b.memoryIn(b.stateOf(successor, c)); got != "later" {
		t.Errorf("the Checkpoint is %q", got)
	}
}

// A container alone was stopped, the pod was deleted before kubelet had started it again, and it was: what was stored meanwhile is of before that, and cannot
// be replaced. The state of the pod waits until the name is free.
func TestAStateWaitsForTheEndOfOneThatWasStoredBeforeThePodWentOn(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	first := b.captured(pod, "1", capture.Complete)
	b.look(first)
	digest := b.checkpoint("a-a-uid").Status.ManifestDigest
	b.write(filepath.Join(first, capture.DiscardedFile), "the pod went on")
	second := b.captured(pod, "2", capture.Complete)
	record, err := capture.Read(second)
	if err != nil {
		t.Fatal(err)
	}
	record.Started = record.Started.Add(30 * time.Second)
	if err := record.Write(second); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(cacheInterval)
	b.look(first)
	c := b.checkpoint("a-a-uid")
	is(t, c, v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.StateDiscarded, "the pod went on")
	if isThere(first) || c.Status.ManifestDigest != digest {
		t.Errorf("its folder is there: %t; of the digest %q there is %q", isThere(first), digest, c.Status.ManifestDigest)
	}
	deleted := b.checkpoint("a-a-uid") // its finalizer keeps it
	for _, step := range []func() error{
		func() error { return nil },
		func() error { return b.Client.Delete(t.Context(), deleted) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if b.look(second); !isThere(second) || b.checkpoint("a-a-uid").Status.ManifestDigest != digest {
			t.Fatalf("it does not wait: %+v", b.checkpoint("a-a-uid").Status)
		}
		b.now = b.now.Add(longestWait)
	}
	deleted = b.checkpoint("a-a-uid")
	deleted.Finalizers = nil
	if err := b.Client.Update(t.Context(), deleted); err != nil {
		t.Fatal(err)
	}
	b.look(second)
	if c := b.checkpoint("a-a-uid"); !isTrue(c, v1alpha1.CheckpointUploaded) || !c.Status.CaptureTime.Time.Equal(cutOf(record).Time) {
		t.Errorf("it is not stored then: %+v", c.Status)
	}
}

func TestMemoryIsNotSentAheadBesideAnotherCapture(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	first, second := b.captured(pod, "1", capture.Complete), b.captured(pod, "2.partial", capture.Dumping)
	b.work[first] = &publication{busy: true}
	if !b.uploadsOther(second) {
		t.Error("it would be")
	}
	b.work[first] = &publication{}
	h := &ahead{ended: make(chan struct{})}
	b.ahead = map[string]*ahead{strings.TrimSuffix(second, ".partial"): h}
	if b.uploadsOther(second) || !b.uploadsOther(first) {
		t.Error("of two captures the one is sent beside what is sent ahead of the other, or that waits for itself")
	}
	close(h.ended)
	if b.uploadsOther(first) {
		t.Error("it waits for what has ended")
	}
}

func TestAnUploadEndsWhenItsCaptureIsDiscarded(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	begun := make(chan struct{})
	b.store.before = func(ctx context.Context, call, key string) {
		if call == "Put" && strings.Contains(key, "/packs/") {
			b.store.before = nil
			close(begun)
			<-ctx.Done()
		}
	}
	slots, dir := newSlots(1), b.captured(pod, "1", capture.Complete)
	b.Agent.look(t.Context(), dir, slots)
	<-begun
	b.write(filepath.Join(dir, capture.DiscardedFile), "the pod went on")
	b.Agent.look(t.Context(), dir, slots)
	b.awaitUploads(slots)
	if b.look(dir); isThere(dir) {
		t.Error("its folder is still there")
	}
}

func TestAnUploadEndsWhenItsCheckpointIsDeleted(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	begun, deletion := make(chan struct{}), sync.Once{}
	b.store.before = func(ctx context.Context, call, key string) {
		if call == "Put" && strings.Contains(key, "/packs/") {
			deletion.Do(func() {
				c := b.checkpoint("a-a-uid") // its finalizer keeps it
				if err := b.Client.Delete(ctx, c); err != nil {
					t.Error(err)
				}
				b.now = b.now.Add(progressInterval)
				close(begun)
			})
		}
		if call == "Put" && strings.Contains(key, "/manifests/") {
			<-ctx.Done()
		}
	}
	dir := b.captured(pod, "1", capture.Complete)
	b.write(filepath.Join(dir, "containers/app/criu/pages-2.img"), strings.Repeat("more", 20<<20)) // so that there is progress to tell of
	b.look(dir)
	<-begun
	if keys := b.store.keys(folder(b.checkpoint("a-a-uid")) + "/manifests"); len(keys) > 0 {
		t.Errorf("it went on to the end: %v", keys)
	}
	b.now = b.now.Add(longestWait)
	if b.look(dir); isThere(dir) || len(b.store.keys("")) > 0 {
		t.Errorf("folder there: %t, bucket: %v", isThere(dir), b.store.keys(""))
	}
}
