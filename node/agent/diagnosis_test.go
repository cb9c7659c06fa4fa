package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/events"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestCapturesOfAPodThatAsksStayForDiagnosis(t *testing.T) {
	recorder := events.NewFakeRecorder(64)
	now, full := time.Now(), false
	a := &Agent{
		Node: capture.Node{Root: t.TempDir()}, NodeName: "worker-1", Recorder: recorder, Now: func() time.Time { return now },
		work: map[string]*publication{}, ahead: map[string]*ahead{}, nearlyFull: func(string) bool { return full },
	}
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
	if a.tidyDiagnosis(); left() != 10 {
		t.Errorf("%d stay", left())
	}
	if said := <-recorder.Events; !strings.Contains(said, "DiagnosisKept") || !strings.Contains(said, "/ns_p_0f2d4c1a_1,") {
		t.Errorf("the event says %s", said)
	}
	if _, err := os.Stat(filepath.Join(a.Node.DiagnosisRoot(), "ns_p_0f2d4c1a_12", "log")); err != nil {
		t.Error(err)
	}
	now = now.Add(25 * time.Hour)
	if a.tidyDiagnosis(); left() != 0 {
		t.Errorf("after a day %d stay", left())
	}
	full = true
	if err := a.retire(folder(13, true)); err != nil || left() != 0 {
		t.Errorf("on a full disk %d stay, %v", left(), err)
	}
}
