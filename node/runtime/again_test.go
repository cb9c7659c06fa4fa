package runtime

import (
	"path/filepath"
	"testing"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/node/engine"
)

// A container that is created again goes on from a state of its line, and never from one of before it last began from scratch.
func TestWhichTimeItIsThatAContainerIsRestored(t *testing.T) {
	restored := func(again int, own string) *capture.Result {
		return &capture.Result{Outcome: capture.Restored, Again: again, Own: own}
	}
	failed := func(again int, own string) *capture.Result {
		return &capture.Result{Outcome: capture.RestoreFailed, Again: again, Own: own}
	}
	began, scratch := capture.Line{Containers: []string{"a"}}, capture.Line{Containers: []string{"c"}, Afresh: true}
	wentOn := capture.Line{Containers: []string{"a", "b"}, Afresh: true}
	for what, test := range map[string]struct {
		own    string // the Checkpoint of the pod's own that the decision names; empty for the one that the pod began with
		line   capture.Line
		result *capture.Result
		want   int
		fails  bool
	}{
		"it was restored with its pod":               {line: began, result: restored(0, ""), want: 1},
		"and once more":                              {line: began, result: restored(1, ""), want: 2},
		"and that was often enough":                  {line: began, result: restored(2, ""), fails: true},
		"it began from scratch":                      {line: scratch, result: restored(0, "")},
		"its restore failed, and it is tried again":  {line: began, result: failed(0, "")},
		"it goes on from a state of its own":         {own: "one", line: wentOn, result: restored(1, "one"), want: 2},
		"from another one, for the first time":       {own: "two", line: wentOn, result: restored(2, "one"), want: 1},
		"it began from scratch since, and left none": {own: "one", line: scratch, result: failed(1, "one")},
	} {
		t.Run(what, func(t *testing.T) {
			node := capture.Node{Root: t.TempDir()}
			d := capture.Decision{Action: capture.Restore, Checkpoint: "first", Restarts: 2, Policy: "mine", Containers: []string{"app"}}
			if err := node.Decide("1234", d); err != nil {
				t.Fatal(err)
			}
			decided, err := node.Decision("1234")
			if err != nil {
				t.Fatal(err)
			}
			if test.own != "" {
				state := capture.Fetched{Checkpoint: test.own, Directory: filepath.Join(node.Root, test.own)}
				if err := node.GoOnFrom("1234", decided, state, "app"); err != nil {
					t.Fatal(err)
				}
			}
			if test.result != nil {
				if err := capture.WriteJSON(node.ResultFile("1234", "app"), test.result); err != nil {
					t.Fatal(err)
				}
			}
			f := &front{node: node}
			c := &engine.Container{ID: "new", Name: "app", Pod: capture.Pod{UID: "1234"}}
			_, again, why := f.again(&engine.Engine{Node: node, Log: t.Logf}, c, &test.line, decided)
			if again != test.want || (why != nil) != test.fails {
				t.Errorf("it is restored for the %d. time, %v; want %d", again, why, test.want)
			}
		})
	}
}
