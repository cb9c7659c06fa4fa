package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// transitions are those of a folder that a page documents as the runtime's: from each state those that follow.
func transitions(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile("../../docs/designs/0008-claims.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(line, " | ")
		if len(cells) != 5 || cells[0] != "| folder" || cells[3] != "runtime" {
			continue
		}
		for from := range strings.SplitSeq(cells[1], ", ") {
			found[from] = append(found[from], cells[2])
		}
	}
	return found
}

// leads tells whether one state leads to another, at once or by others.
func leads(by map[string][]string, from, to string, seen map[string]bool) bool {
	if from == to {
		return true
	}
	seen[from] = true
	for _, next := range by[from] {
		if !seen[next] && leads(by, next, to, seen) {
			return true
		}
	}
	return false
}

// stageOf is the state of the pod's only capture, in the words of the page.
func stageOf(t *testing.T, captures string) string {
	t.Helper()
	has := func(name string) bool { _, err := os.Stat(filepath.Join(captures, name)); return err == nil }
	folder, states := "1", map[capture.State]string{capture.Complete: "complete", capture.Failed: "failed"}
	if has("1.partial") {
		folder, states = "1.partial", map[capture.State]string{
			capture.Dumping: "dumping", capture.Dumped: "dumped", capture.Complete: "unnamed", capture.Failed: "failing",
		}
	}
	record, err := capture.Read(filepath.Join(captures, folder))
	switch {
	case !has(folder):
		return "nothing"
	case err != nil:
		return "begun"
	case record.State == capture.Dumped && has(folder+"/"+killedFile):
		return "killed"
	case has(folder + "/" + capture.DiscardedFile):
		return "discarded"
	case has(folder+"/"+capture.UploadedFile) && record.State == capture.Complete:
		return "uploaded"
	case has(folder+"/"+capture.SyncedFile) && record.State == capture.Complete:
		return "synced"
	}
	return states[record.State]
}

// The explored model of a capture's life (node/agent, docs/designs/0008-claims.md) has the runtime's steps by hand. So the real one is held against the same
// table: it settles what was cut off in each state, in the boot of the capture and in the next, and is told that the pod went on.
func TestWhatWasCutOffIsSettledAsDocumented(t *testing.T) {
	by := transitions(t)
	for from, test := range map[string]struct {
		folder           string
		state            capture.State // of the record; empty is none
		file             string
		here, later, off string // what becomes of it: in this boot, in the next, and when the pod goes on
	}{
		"begun":     {"1.partial", "", "", "nothing", "nothing", "begun"},
		"dumping":   {"1.partial", capture.Dumping, "", "failed", "failed", "discarded"},
		"dumped":    {"1.partial", capture.Dumped, "", "synced", "failed", "discarded"},
		"killed":    {"1.partial", capture.Dumped, killedFile, "synced", "failed", "killed"},
		"unnamed":   {"1.partial", capture.Complete, "", "synced", "failed", "discarded"},
		"failing":   {"1.partial", capture.Failed, "", "failed", "failed", "failing"},
		"complete":  {"1", capture.Complete, "", "synced", "failed", "discarded"},
		"synced":    {"1", capture.Complete, capture.SyncedFile, "synced", "synced", "discarded"},
		"uploaded":  {"1", capture.Complete, capture.UploadedFile, "uploaded", "uploaded", "discarded"},
		"failed":    {"1", capture.Failed, "", "failed", "failed", "failed"},
		"discarded": {"1", capture.Complete, capture.DiscardedFile, "discarded", "discarded", "discarded"},
	} {
		for when, want := range map[string]string{"this boot": test.here, "the next": test.later, "the pod goes on": test.off} {
			t.Run(from+", "+when, func(t *testing.T) {
				e := quiet(t)
				boot := map[bool]string{true: "second", false: "first"}[when == "the next"]
				write(t, filepath.Join(e.Node.Root, "proc/sys/kernel/random/boot_id"), boot)
				captures := e.Node.Captures(uidOfPod)
				dir := filepath.Join(captures, test.folder)
				write(t, filepath.Join(dir, "containers/app/criu/pages-1.img"), "memory")
				record := &capture.Capture{
					State: test.state, Trigger: capture.Trigger{Signal: "SIGTERM"}, Sequence: 1, BootID: "first", Failure: &capture.Failure{},
				}
				if test.state != "" {
					if err := record.Write(dir); err != nil {
						t.Fatal(err)
					}
				}
				if test.file != "" {
					write(t, filepath.Join(dir, test.file), "")
				}
				if got := stageOf(t, captures); got != from {
					t.Fatalf("it begins as %s", got)
				}
				if when == "the pod goes on" {
					if err := e.PodGoesOn(&Container{Pod: capture.Pod{UID: uidOfPod}}); err != nil {
						t.Fatal(err)
					}
				} else if err := e.Settle(t.Context(), uidOfPod); err != nil {
					t.Fatal(err)
				}
				got := stageOf(t, captures)
				isSaid := when == "the pod goes on" && test.folder == "1.partial" // while it has no name it is no transition yet
				if got != want || !isSaid && !leads(by, from, got, map[string]bool{}) {
					t.Errorf("it becomes %s; it should become %s; the page leads from %s to %v", got, want, from, by[from])
				}
			})
		}
	}
}
