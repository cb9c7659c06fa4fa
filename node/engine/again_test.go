package engine

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// leave writes a finished capture of "c" that its pod left while it went on, and lets the test change it.
func leave(t *testing.T, e *Engine, sequence int, change func(*capture.Capture)) {
	t.Helper()
	folder := strconv.Itoa(sequence)
	record := &capture.Capture{Sequence: sequence, State: capture.Complete}
	record.Trigger.Asks = &capture.Asks{Checkpoint: "state-" + folder, UID: folder}
	record.Containers = []capture.Container{{Name: "c", ID: "first"}}
	if change != nil {
		change(record)
	}
	dir := filepath.Join(e.Node.Captures(uidOfPod), folder)
	write(t, filepath.Join(dir, "containers/c/criu/pages-1.img"), folder)
	write(t, filepath.Join(dir, capture.SyncedFile), "")
	if err := record.Write(dir); err != nil {
		t.Fatal(err)
	}
}

func TestAContainerTakesTheLastStateOfItsLine(t *testing.T) {
	line := &capture.Line{Containers: []string{"first", "second"}}
	for what, test := range map[string]struct {
		leaves map[int]func(*capture.Capture)
		want   string // the Checkpoint, or empty for none
		fails  bool
	}{
		"nothing was left": {},
		"the last":         {leaves: map[int]func(*capture.Capture){2: nil, 10: nil}, want: "state-10"},
		"of one like it":   {leaves: map[int]func(*capture.Capture){1: func(c *capture.Capture) { c.Containers[0].ID = "second" }}, want: "state-1"},
		"from before it":   {leaves: map[int]func(*capture.Capture){1: nil, 2: func(c *capture.Capture) { c.Containers[0].ID = "earlier" }}, want: "state-1"},
		"one that failed":  {leaves: map[int]func(*capture.Capture){1: nil, 2: func(c *capture.Capture) { c.State = capture.Failed }}, want: "state-1"},
		"a last one":       {leaves: map[int]func(*capture.Capture){1: nil, 2: func(c *capture.Capture) { c.Trigger.Signal = "SIGTERM" }}, want: "state-1"},
		"of another":       {leaves: map[int]func(*capture.Capture){1: func(c *capture.Capture) { c.Containers[0].Name = "d" }}},
		"of several": {
			leaves: map[int]func(*capture.Capture){1: func(c *capture.Capture) { c.Containers = append(c.Containers, capture.Container{Name: "d"}) }},
			fails:  true,
		},
	} {
		t.Run(what, func(t *testing.T) {
			e := quiet(t)
			write(t, filepath.Join(e.Node.Root, "proc/sys/kernel/random/boot_id"), "this")
			if err := e.Node.Decide(uidOfPod, capture.Decision{Action: capture.Cold, Reason: "NoCheckpoint", Restarts: 1, Policy: "mine"}); err != nil {
				t.Fatal(err)
			}
			for sequence, change := range test.leaves {
				leave(t, e, sequence, change)
			}
			c := &Container{Name: "c", ID: "third", Pod: capture.Pod{UID: uidOfPod}}
			d, found, err := e.TakeOwn(c, line)
			if (err != nil) != test.fails {
				t.Fatal(err)
			}
			if test.want == "" {
				if d.Own || d.Action != capture.Cold || found != test.fails {
					t.Errorf("the decision is %+v, something was found: %t", d, found)
				}
				return
			}
			if !d.Own || d.Checkpoint != test.want || !d.Restores("c") || d.Restarts != 1 || d.Policy != "mine" {
				t.Errorf("the decision is %+v", d)
			}
			if _, err := os.Stat(filepath.Join(d.Directory, "containers/c/criu/pages-1.img")); err != nil {
				t.Error(err)
			}
			leave(t, e, 20, nil) // and the next time from a later one, which alone takes room then
			next, _, err := e.TakeOwn(c, line)
			if err != nil || next.Checkpoint != "state-20" {
				t.Fatalf("the next decision is %+v, %v", next, err)
			}
			if _, err := os.Stat(d.Directory); err == nil {
				t.Error("the former state is still there")
			}
			written, err := e.Node.Decision(uidOfPod)
			if err != nil || written.Directory != next.Directory {
				t.Errorf("what is written is %+v, %v", written, err)
			}
		})
	}
}
