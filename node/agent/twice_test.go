package agent

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"

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
