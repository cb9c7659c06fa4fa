package capture

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// boots gives a node a boot id.
func boots(t *testing.T, node Node, id string) {
	t.Helper()
	file := filepath.Join(node.Root, "proc/sys/kernel/random/boot_id")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(id+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADecisionOfAnEarlierBootStandsOnlyIfSomethingRan(t *testing.T) {
	restore := Decision{Action: Restore, Containers: []string{"c", "d"}}
	refuse := Decision{Action: Restore, Containers: []string{"c", "d"}, Fallback: Refuse, Policy: "mine"}
	for what, test := range map[string]struct {
		decision Decision
		results  map[string]Result
		stands   bool
		refused  string
	}{
		"a cold start":                         {decision: Decision{Action: Cold}, stands: true},
		"nothing was tried":                    {decision: restore},
		"nothing was tried, and it refuses":    {decision: refuse, refused: "mine"},
		"a container was restored":             {decision: restore, results: map[string]Result{"d": {Outcome: Restored, Consumed: true}}, stands: true},
		"a container started cold":             {decision: restore, results: map[string]Result{"c": {Outcome: RestoreFailed}}, stands: true},
		"an attempt was cut off":               {decision: restore, results: map[string]Result{"c": {Outcome: Attempted}}},
		"an attempt was cut off, and may run":  {decision: restore, results: map[string]Result{"c": {Outcome: Attempted, Consumed: true}}, stands: true},
		"a container was refused":              {decision: refuse, results: map[string]Result{"c": {Outcome: RestoreFailed}}, refused: "mine"},
		"a container was refused, and has run": {decision: refuse, results: map[string]Result{"c": {Outcome: RestoreFailed, Consumed: true}}, stands: true},
	} {
		t.Run(what, func(t *testing.T) {
			node := Node{Root: t.TempDir()}
			boots(t, node, "first")
			if err := node.Decide("1234", test.decision); err != nil {
				t.Fatal(err)
			}
			for name, r := range test.results {
				if err := WriteJSON(node.ResultFile("1234", name), r); err != nil {
					t.Fatal(err)
				}
			}
			if d, err := node.Decision("1234"); err != nil || !node.HasStates(d) {
				t.Fatalf("in its own boot it is %+v, %v", d, err)
			}
			boots(t, node, "second")
			if _, err := node.Decision("1234"); test.stands != (err == nil) || !test.stands && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("in the next boot it says %v", err)
			}
			if lost := node.Lost("1234"); (lost == nil) != test.stands || lost != nil && lost.Policy != test.refused {
				t.Errorf("lost is %+v", lost)
			}
			err := node.Decide("1234", Decision{Action: Cold, Reason: "Anew"})
			d, readErr := node.Decision("1234")
			if readErr != nil || test.stands != errors.Is(err, fs.ErrExist) || test.stands == (d.Reason == "Anew") {
				t.Errorf("decided anew it is %+v, %v, %v", d, err, readErr)
			}
		})
	}
}

// TestAPowerCutTakesWhatWasNotSynced: what is not on the disk is a file without content, or with zeros, when the node is there again.
func TestAPowerCutTakesWhatWasNotSynced(t *testing.T) {
	for what, left := range map[string][]byte{"nothing": {}, "zeros": make([]byte, 100), "a part": []byte(`{"schemaVersion": 1, "act`)} {
		t.Run(what, func(t *testing.T) {
			node := Node{Root: t.TempDir()}
			boots(t, node, "first")
			decision := Decision{Action: Restore, Containers: []string{"c"}}
			if err := node.Decide("1234", decision); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{node.decisionFile("1234"), node.ResultFile("1234", "c")} {
				if err := os.WriteFile(path, left, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			boots(t, node, "second")
			if _, err := node.Decision("1234"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the decision is read with %v", err)
			}
			if r, err := node.Result("1234", "c"); !errors.Is(err, fs.ErrNotExist) || r.Consumed || r.Outcome != "" {
				t.Errorf("the result is read as %+v with %v", r, err)
			}
			if node.Lost("1234") == nil {
				t.Error("nothing is lost")
			}
			if err := node.Decide("1234", decision); err != nil {
				t.Fatal(err)
			}
			if err := SyncRestore(node.Restores("1234")); err != nil {
				t.Fatal(err)
			}
			if d, err := node.Decision("1234"); err != nil || !node.HasStates(d) {
				t.Errorf("decided anew it is %+v, %v", d, err)
			}
		})
	}
}

// A pod takes up the line of the state that it claimed, and of no other: not by states of its own when it had started cold.
func TestTheLineThatAPodTakesUp(t *testing.T) {
	claimed := Decision{Action: Restore, Checkpoint: "claimed", Containers: []string{"c"}, KeptLine: "line"}
	restored, cold := Result{Outcome: Restored}, Result{Outcome: RestoreFailed}
	one, two := Result{Outcome: Restored, Own: "one"}, Result{Outcome: Attempted, Own: "two"}
	for what, test := range map[string]struct {
		decision Decision
		results  []Result // one after the other; before each with Own the pod goes on from that
		want     string
	}{
		"nothing was tried":                       {decision: claimed},
		"it was restored":                         {decision: claimed, results: []Result{restored}, want: "line"},
		"it may have run":                         {decision: claimed, results: []Result{{Outcome: RestoreFailed, Consumed: true}}, want: "line"},
		"it started cold":                         {decision: claimed, results: []Result{cold}},
		"it goes on from its own, and began cold": {decision: claimed, results: []Result{cold, one}},
		"twice": {decision: claimed, results: []Result{cold, one, two}},
		"it goes on from its own, and was restored": {decision: claimed, results: []Result{restored, one}, want: "line"},
		"more than once":   {decision: claimed, results: []Result{restored, one, two}, want: "line"},
		"there is no line": {decision: Decision{Action: Restore, Containers: []string{"c"}}, results: []Result{restored}},
	} {
		t.Run(what, func(t *testing.T) {
			node := Node{Root: t.TempDir()}
			if err := node.Decide("1234", test.decision); err != nil {
				t.Fatal(err)
			}
			for _, r := range test.results {
				if r.Own != "" {
					d, err := node.Decision("1234")
					if err == nil {
						err = node.GoOnFrom("1234", d, Fetched{Checkpoint: r.Own}, "c")
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if err := WriteJSON(node.ResultFile("1234", "c"), r); err != nil {
					t.Fatal(err)
				}
			}
			d, err := node.Decision("1234")
			if err != nil {
				t.Fatal(err)
			}
			if got := node.TakenLine("1234", d); got != test.want {
				t.Errorf("it is %q, want %q", got, test.want)
			}
		})
	}
}
