package agent

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
)

// dumps makes the folder of a capture whose memory is being written, and writes some of it.
func (b *bench) dumps(dir string, bytes int) {
	b.t.Helper()
	record, err := capture.Read(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	record.Trigger.Signal = "SIGTERM"
	pages := make([]byte, bytes)
	_, _ = rand.NewChaCha8([32]byte{}).Read(pages) // it never fails
	b.write(filepath.Join(dir, "containers/app/criu/pages-1.img"), string(pages))
	if err := record.Write(dir); err != nil {
		b.t.Fatal(err)
	}
}

// mapped writes the map of that memory, as CRIU does at the end of a process.
func (b *bench) mapped(dir string, bytes int) {
	b.t.Helper()
	text := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0x54564319), 0x56084025)
	for _, message := range []proto.Message{&pagemap.PagemapHead{PagesId: proto.Uint32(1)}, &pagemap.PagemapEntry{
		Vaddr: proto.Uint64(0x7f0000000000), CompatNrPages: proto.Uint32(0), NrPages: proto.Uint64(uint64(bytes / os.Getpagesize())), Flags: proto.Uint32(1 << 2),
	}} {
		data, err := proto.Marshal(message)
		if err != nil {
			b.t.Fatal(err)
		}
		text = append(binary.LittleEndian.AppendUint32(text, uint32(len(data))), data...)
	}
	b.write(filepath.Join(dir, "containers/app/criu/pagemap-1.img"), string(text))
}

// packs counts the packs in the bucket.
func (b *bench) packs() (count int) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	for key := range b.store.objects {
		if strings.Contains(key, "/packs/") {
			count++
		}
	}
	return count
}

// awaitPacks waits until there are any.
func (b *bench) awaitPacks() {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); b.packs() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatal("nothing is sent")
		}
	}
}

func TestMemoryIsSentWhileItIsWritten(t *testing.T) {
	t.Parallel()
	pod := newPod("db", going)
	b := newBench(t)
	partial := b.captured(pod, "1.partial", capture.Dumping)
	b.dumps(partial, aheadFrom+(8<<20))
	b.lock(string(pod.UID))
	slots := newSlots(1)
	b.Agent.look(t.Context(), partial, slots)
	b.awaitPacks()
	c := b.checkpoint(v1alpha1.TerminationName(pod.Name, pod.UID))
	if c.Status.LocationName != "main" || meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointUploaded) {
		t.Errorf("while it is written the status is %+v", c.Status)
	}
	b.mapped(partial, aheadFrom+(8<<20))
	record, err := capture.Read(partial)
	if err != nil {
		t.Fatal(err)
	}
	record.State, record.SizeBytes = capture.Complete, aheadFrom+(8<<20)
	record.Containers = []capture.Container{{Name: "app", Image: "app:1"}}
	b.write(filepath.Join(partial, capture.SyncedFile), "")
	dir := strings.TrimSuffix(partial, ".partial")
	if err := record.Write(partial); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(partial, dir); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		b.Agent.look(t.Context(), dir, slots)
		b.awaitUploads(slots)
		c := meta.FindStatusCondition(b.checkpoint(v1alpha1.TerminationName(pod.Name, pod.UID)).Status.Conditions, v1alpha1.CheckpointUploaded)
		if c != nil && c.Status == metav1.ConditionTrue {
			if !strings.HasPrefix(c.Message, "73Mi sent to main in ") {
				t.Errorf("it says %q", c.Message)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is not uploaded: %+v", c)
		}
	}
	if n := b.packs(); n != 4 { // three of memory, and one of all else
		t.Errorf("there are %d packs", n)
	}
}

// TestWhatWasSentAheadOfAFailedCaptureIsFound: its Checkpoint says where it lies, so that whoever deletes that deletes it as well.
func TestWhatWasSentAheadOfAFailedCaptureIsFound(t *testing.T) {
	t.Parallel()
	pod := newPod("db", going)
	b := newBench(t)
	partial := b.captured(pod, "1.partial", capture.Dumping)
	b.dumps(partial, aheadFrom)
	b.lock(string(pod.UID))
	slots := newSlots(1)
	b.Agent.look(t.Context(), partial, slots)
	b.awaitPacks()
	dir := b.captured(pod, "1.partial", capture.Failed)
	if err := os.Rename(dir, strings.TrimSuffix(dir, ".partial")); err != nil {
		t.Fatal(err)
	}
	b.awaitUploads(slots)
	b.look(strings.TrimSuffix(dir, ".partial"))
	if c := b.checkpoint(v1alpha1.TerminationName(pod.Name, pod.UID)); c.Status.LocationName != "main" {
		t.Errorf("its status is %+v", c.Status)
	}
}
