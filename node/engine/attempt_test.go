package engine

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// decided writes a decision to restore "c" and others from a folder that holds nothing.
func decided(t *testing.T, e *Engine, d capture.Decision) {
	t.Helper()
	d.Action, d.Checkpoint, d.Directory = capture.Restore, "last", filepath.Join(t.TempDir(), "last")
	if err := e.Node.Decide(uidOfPod, d); err != nil {
		t.Fatal(err)
	}
}

// tries restores "c" in vain, and returns how often it was begun.
func tries(t *testing.T, e *Engine, others ...string) int {
	t.Helper()
	log := &strings.Builder{}
	e.Log = func(format string, _ ...any) { log.WriteString(format + "\n") }
	bundle := t.TempDir()
	write(t, filepath.Join(bundle, "config.json"), "{}")
	d, err := e.Node.Decision(uidOfPod)
	if err != nil {
		t.Fatal(err)
	}
	c := &Container{Name: "c", Bundle: bundle, Pod: capture.Pod{UID: uidOfPod}}
	if err := e.Restore(t.Context(), RestoreOptions{Container: c, Directory: d.Directory, Attempts: d.Attempts, Others: others}); err == nil {
		t.Fatal("it is restored")
	}
	return strings.Count(log.String(), "begun again") + 1
}

func TestARestoreIsBegunAsOftenAsTheDecisionSays(t *testing.T) {
	for attempts, want := range map[int]int{0: capture.DefaultAttempts, 1: 1, 4: 4} {
		e := quiet(t)
		decided(t, e, capture.Decision{Attempts: attempts, Containers: []string{"c"}})
		if got := tries(t, e); got != want {
			t.Errorf("with %d it was begun %d times, want %d", attempts, got, want)
		}
		if r, err := e.Node.Result(uidOfPod, "c"); err != nil || r.Outcome != capture.RestoreFailed {
			t.Errorf("the result is %+v, %v", r, err)
		}
	}
}

func TestNothingIsRestoredFromWhatAPowerCutMayHaveTorn(t *testing.T) {
	e := quiet(t)
	boot := filepath.Join(e.Node.Root, "proc/sys/kernel/random/boot_id")
	write(t, boot, "first")
	decided(t, e, capture.Decision{Containers: []string{"c", "d"}, Previous: &capture.Fetched{Checkpoint: "before", Directory: t.TempDir()}})
	if err := capture.WriteJSON(e.Node.ResultFile(uidOfPod, "d"), capture.Result{Container: "d", Outcome: capture.Restored}); err != nil {
		t.Fatal(err)
	}
	write(t, boot, "second")
	if got := tries(t, e, "d"); got != 1 {
		t.Errorf("it was begun %d times", got)
	}
	if r, err := e.Node.Result(uidOfPod, "c"); err != nil || !strings.Contains(r.Message, "the node went down") {
		t.Errorf("the result is %+v, %v", r, err)
	}
	if d, err := e.Node.Decision(uidOfPod); err != nil || d.Checkpoint != "last" {
		t.Errorf("the decision is %+v, %v", d, err)
	}
}

func TestOnlyTheFirstContainerOfAPodGoesBack(t *testing.T) {
	for what, test := range map[string]struct {
		other *capture.Result
		want  string
	}{
		"nothing is known of the other": {nil, "before"},
		"the other has gone on":         {&capture.Result{Container: "d", Outcome: capture.Restored}, "last"},
	} {
		t.Run(what, func(t *testing.T) {
			e := quiet(t)
			decided(t, e, capture.Decision{
				Attempts: 1, Containers: []string{"c", "d"}, Previous: &capture.Fetched{Checkpoint: "before", Directory: filepath.Join(t.TempDir(), "before")},
			})
			if test.other != nil {
				if err := capture.WriteJSON(e.Node.ResultFile(uidOfPod, "d"), test.other); err != nil {
					t.Fatal(err)
				}
			}
			tries(t, e, "d")
			d, err := e.Node.Decision(uidOfPod)
			if err != nil || d.Checkpoint != test.want || filepath.Base(d.Directory) != test.want || (d.GivenUp != nil) != (test.want == "before") {
				t.Errorf("the decision is %+v, %v", d, err)
			}
			if g := d.GivenUp; g != nil && (g.Checkpoint != "last" || !strings.Contains(g.Why, "capture.json")) {
				t.Errorf("it was given up: %+v", g)
			}
		})
	}
}
