package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/storage"
)

// boots gives the node a new boot id, as its power was cut: what was not synced may have holes.
func (b *bench) boots(id string) {
	b.t.Helper()
	file := filepath.Join(b.Node.Root, "proc/sys/kernel/random/boot_id")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		b.t.Fatal(err)
	}
	b.write(file, id+"\n")
}

// tear takes the content of a state's memory, as a power cut may.
func (b *bench) tear(dir string) {
	b.t.Helper()
	b.write(filepath.Join(dir, "containers/app/criu/pages-1.img"), "")
}

func (b *bench) memoryIn(dir string) string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "containers/app/criu/pages-1.img"))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

func TestWhatWasFetchedBeforeThePowerWasCutIsFetchedAgain(t *testing.T) {
	pod := successor()
	b := twoStates(t, pod)
	b.boots("first")
	b.reconcile(pod)
	d := b.decision(pod)
	for _, dir := range []string{d.Directory, d.Previous.Directory} {
		b.tear(dir)
	}
	b.boots("second")
	if _, err := b.Node.Decision("new-uid"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the decision of the first boot: %v", err)
	}
	b.store.broken = storage.ErrUnavailable // the network is not up yet
	b.began, b.now = b.now.Add(time.Hour), b.now.Add(time.Hour)
	b.reconcile(pod)
	if claim := b.checkpoint("b-b-uid").Status.Claim; claim == nil || claim.PodName != "new" {
		t.Fatalf("its claim is %+v", claim)
	}
	b.store.broken = nil
	pod.Status.Phase = corev1.PodRunning // as kubelet says of a pod whose container it could not make, for a policy that says Fail
	if err := b.Client.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	b.reconcile(pod)
	again := b.decision(pod)
	if again.Checkpoint != d.Checkpoint || again.Previous == nil {
		t.Fatalf("the decision is %+v", again)
	}
	for _, dir := range []string{again.Directory, again.Previous.Directory} {
		if got := b.memoryIn(dir); got != "memory" {
			t.Errorf("in %s is %q", dir, got)
		}
	}
	if isThere(d.Directory) || isThere(d.Previous.Directory) {
		t.Error("the states of the first boot still take room")
	}
	if claim := b.checkpoint("b-b-uid").Status.Claim; claim == nil || claim.PodName != "new" {
		t.Errorf("its claim is %+v", claim)
	}
}

func TestTheDecisionOfAPodThatRanStandsAfterAPowerCut(t *testing.T) {
	pod := successor()
	b := twoStates(t, pod)
	b.boots("first")
	b.reconcile(pod)
	b.tells(pod, capture.Result{Outcome: capture.Restored, Consumed: true})
	b.boots("second")
	if d := b.decision(pod); d.Checkpoint != "b-b-uid" || b.Node.HasStates(d) {
		t.Errorf("the decision is %+v, and its states are whole: %t", d, b.Node.HasStates(d))
	}
}

func TestACaptureThatThePowerCutMayHaveTornIsNotUsed(t *testing.T) {
	pod, successor := newPod("a"), newPod("new")
	b := noted(t, pod)
	b.boots("first")
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	if err := os.Remove(filepath.Join(dir, capture.SyncedFile)); err != nil {
		t.Fatal(err)
	}
	b.tear(dir)
	b.write(filepath.Join(dir, memoFile), "") // which is not synced either
	b.boots("second")
	if _, err := b.fetch(t.Context(), successor, c); err != nil {
		t.Fatal(err)
	}
	if got := b.memoryIn(b.stateOf(successor, c)); got != "memory" {
		t.Errorf("fetched was %q", got)
	}
	digest := c.Status.ManifestDigest
	if b.look(dir); isThere(dir) {
		t.Error("its folder is still there, though the bucket has it")
	}
	if c := b.checkpoint("a-a-uid"); c.Status.ManifestDigest != digest || !isTrue(c, v1alpha1.CheckpointUploaded) {
		t.Errorf("its status is %+v", c.Status)
	}
}
