package agent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage"
)

func TestCapturesOfAPodThatAsksStayForDiagnosis(t *testing.T) {
	recorder := events.NewFakeRecorder(64)
	now, full := time.Now(), false
	a := newBench(t).Agent
	a.Recorder, a.Now, a.nearlyFull = recorder, func() time.Time { return now }, func(string) bool { return full }
	folder := func(sequence int, diagnosis bool) string {
		dir := filepath.Join(a.Node.Captures("0f2d4c1a-93c1"), fmt.Sprint(sequence))
		if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
			t.Fatal(err)
		}
		record := capture.Capture{Pod: capture.Pod{Namespace: "ns", Name: "p", UID: "0f2d4c1a-93c1"}, Sequence: sequence}
		record.Settings.Diagnosis = diagnosis
		if err := record.Write(dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	left := func() int { return len(namesIn(a.Node.DiagnosisRoot())) }
	if err := a.retire(folder(1, false)); err != nil || left() != 0 {
		t.Errorf("of a pod that does not ask %d stay, %v", left(), err)
	}
	for sequence := 1; sequence <= 12; sequence++ {
		now = now.Add(time.Second)
		if err := a.retire(folder(sequence, true)); err != nil {
			t.Fatal(err)
		}
	}
	if a.tidyDiagnosis(t.Context()); left() != 10 {
		t.Errorf("%d stay", left())
	}
	if said := <-recorder.Events; !strings.Contains(said, "DiagnosisKept") || !strings.Contains(said, "/ns_p_0f2d4c1a_1,") {
		t.Errorf("the event says %s", said)
	}
	if _, err := os.Stat(filepath.Join(a.Node.DiagnosisRoot(), "ns_p_0f2d4c1a_12", "log")); err != nil {
		t.Error(err)
	}
	now = now.Add(25 * time.Hour)
	if a.tidyDiagnosis(t.Context()); left() != 0 {
		t.Errorf("after a day %d stay", left())
	}
	full = true
	if err := a.retire(folder(13, true)); err != nil || left() != 0 {
		t.Errorf("on a full disk %d stay, %v", left(), err)
	}
}

// What a restore left is kept as well, and the text of it is sent to the bucket, once, as soon as that answers.
func TestWhatARestoreLeftIsKeptAndItsLogsAreSent(t *testing.T) {
	pod := newPod("a", func(p *corev1.Pod) { p.Annotations[keys.Effective] = `{"schemaVersion":1,"diagnosis":true}` })
	b := newBench(t, pod)
	state := b.captured(newPod("before"), "1", capture.Complete)
	d := capture.Decision{Action: capture.Restore, Checkpoint: "one", Directory: state, Containers: []string{"app"}}
	if err := b.Node.Decide("a-uid", d); err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(b.Node.Restores("a-uid"), "log-app")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	b.write(filepath.Join(logs, "restore.log"), "why it failed")
	for range 2 { // once
		if err := b.keepRestore(pod, &d); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(b.Node.DiagnosisRoot(), "default_a_a-uid_restore")
	for _, file := range []string{"decision.json", "log-app/restore.log", "state/containers/app/criu/pages-1.img"} {
		if _, err := os.Stat(filepath.Join(kept, file)); err != nil {
			t.Error(err)
		}
	}
	const key = "diagnosis/default/default_a_a-uid_restore.tar.gz"
	b.store.broken = storage.ErrUnavailable
	if b.tidyDiagnosis(t.Context()); isThere(filepath.Join(kept, sentFile)) {
		t.Error("it was sent to a bucket that does not answer")
	}
	b.store.broken = nil
	b.tidyDiagnosis(t.Context())
	if got := namesInArchive(t, b.store.objects[key]); !slices.Equal(got, []string{aboutFile, "decision.json", "log-app/restore.log"}) {
		t.Errorf("the bucket has %q", got)
	}
	delete(b.store.objects, key)
	if b.tidyDiagnosis(t.Context()); b.store.objects[key] != nil {
		t.Error("it is sent again")
	}
	if err := errors.Join(os.RemoveAll(kept), b.keepRestore(pod, &d)); err != nil || isThere(kept) {
		t.Errorf("what has gone after its time is kept again, %v", err)
	}
	if err := b.keepRestore(newPod("b"), &d); err != nil || len(namesIn(b.Node.DiagnosisRoot())) != 0 {
		t.Errorf("of a pod that does not ask something is kept, %v", err)
	}
}

// Logs are not encrypted, so that a location that encrypts gets none.
func TestWhereALocationEncryptsNoLogsAreSent(t *testing.T) {
	pod := newPod("a", func(p *corev1.Pod) { p.Annotations[keys.Effective] = `{"schemaVersion":1,"diagnosis":true}` })
	b := newBench(t, pod)
	b.encrypts("one")
	b.changeKeys(map[string][]byte{"one": encryptionKey(1)})
	state := b.captured(newPod("before"), "1", capture.Complete)
	d := capture.Decision{Action: capture.Restore, Checkpoint: "one", Directory: state, Containers: []string{"app"}}
	if err := errors.Join(b.Node.Decide("a-uid", d), b.keepRestore(pod, &d)); err != nil {
		t.Fatal(err)
	}
	b.tidyDiagnosis(t.Context())
	said, err := os.ReadFile(filepath.Join(b.Node.DiagnosisRoot(), "default_a_a-uid_restore", sentFile))
	if err != nil || !strings.Contains(string(said), "not sent: location main encrypts") {
		t.Errorf("it says %q, %v", said, err)
	}
	if len(b.store.objects) > 0 {
		t.Errorf("the bucket has %d objects", len(b.store.objects))
	}
}

func namesInArchive(t *testing.T, data []byte) (names []string) {
	t.Helper()
	packed, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(packed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}
