package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestEachLineOfAPodsLogSaysWhatItIsAbout(t *testing.T) {
	pod := capture.Pod{Namespace: "default", Name: "web", UID: "0123456789"}
	for verb, test := range map[string]struct {
		words      []string
		checkpoint string
	}{
		"capture":      {words: []string{"capture", pod.UID}, checkpoint: "web-01234567"},
		"kill":         {words: []string{"kill", "container", "SIGTERM"}, checkpoint: "web-01234567"},
		"capture-live": {words: []string{"capture-live", pod.UID, "by-hand", "uid"}, checkpoint: "by-hand"},
		"create":       {words: []string{"create", "container"}, checkpoint: "before"},
		"settle":       {words: []string{"settle", pod.UID}, checkpoint: "before"},
	} {
		t.Run(verb, func(t *testing.T) {
			f := passing(t, t.TempDir(), test.words...)
			if err := f.node.Decide(pod.UID, capture.Decision{Action: capture.Restore, Checkpoint: "before"}); err != nil {
				t.Fatal(err)
			}
			e := f.engine(pod)
			e.Log("container %q: <one>", "app")
			e.Log("two\nlines")
			data, err := os.ReadFile(filepath.Join(f.node.Root, "run/checkpoint/log", pod.UID+".log"))
			if err != nil {
				t.Fatal(err)
			}
			var got []logLine
			for line := range strings.Lines(string(data)) {
				var l logLine
				if err := json.Unmarshal([]byte(line), &l); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				got = append(got, l)
			}
			want := logLine{Verb: verb, Namespace: "default", Pod: "web", PodUID: pod.UID, Checkpoint: test.checkpoint, Message: `container "app": <one>`}
			second := want
			second.Message = "two\nlines"
			if diff := cmp.Diff([]logLine{want, second}, got, cmpopts.IgnoreFields(logLine{}, "Time", "Process")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if !strings.Contains(string(data), "<one>") {
				t.Errorf("it cannot be read: %s", data)
			}
		})
	}
}
