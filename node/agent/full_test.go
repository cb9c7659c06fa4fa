package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/storage"
)

// fill makes the disk of the captures a small one, has it filled with captures, and the rest with something else.
func (b *bench) fill(captures func()) {
	b.t.Helper()
	if os.Geteuid() != 0 {
		b.t.Skip("it takes root to mount a small disk")
	}
	disk := b.Node.CapturesRoot()
	if err := os.MkdirAll(disk, 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		b.t.Skipf("a small disk cannot be mounted: %v", err)
	}
	b.t.Cleanup(func() { _ = unix.Unmount(disk, 0) })
	captures()
	if err := os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		b.t.Fatalf("the disk is not full: %v", err)
	}
}

func TestAStateIsSentFromAFullDisk(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	var dir string
	b.fill(func() { dir = b.captured(pod, "1", capture.Complete) })
	b.store.broken = storage.ErrUnavailable
	b.look(dir)
	b.store.broken = nil
	b.now = b.now.Add(longestWait)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	if !isTrue(c, "Uploaded") || c.Status.ManifestDigest == "" {
		t.Fatalf("its status is %+v", c.Status)
	}
	if isThere(dir) {
		t.Error("the disk has got no room")
	}
	successor := newPod("new")
	if _, err := b.fetch(t.Context(), successor, c); err != nil {
		t.Fatal(err)
	}
	if got := b.memoryIn(b.stateOf(successor, c)); got != "memory" {
		t.Errorf("it is %q", got)
	}
}

func TestWhatWasSentFromAFullDiskIsWithdrawn(t *testing.T) {
	pod := newPod("a")
	b := noted(t, pod)
	var dir string
	b.fill(func() { dir = b.captured(pod, "1", capture.Complete) })
	b.store.broken = storage.ErrUnavailable
	b.look(dir)
	b.store.broken = nil
	c := b.checkpoint("a-a-uid")
	b.store.objects[folder(c)+"/packs/"+string(c.UID)+"/some"] = []byte("some")
	c.Finalizers = nil
	if err := errors.Join(b.Client.Update(t.Context(), c), b.Client.Delete(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(longestWait)
	if b.look(dir); isThere(dir) || len(b.store.keys("")) > 0 || b.checkpoints() > 0 {
		t.Errorf("folder there: %t, bucket: %v, Checkpoints: %d", isThere(dir), b.store.keys(""), b.checkpoints())
	}
}
