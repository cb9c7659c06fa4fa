package main

import (
	"context"
	"testing"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// TestQuickProgramsSurvive runs the programs of which `make test` wants to know, each through all steps.
func TestQuickProgramsSurvive(t *testing.T) {
	if reason := lab.Unable(); reason != "" {
		t.Skip(reason)
	}
	var quick []Program
	for _, p := range programs() {
		if p.Quick {
			quick = append(quick, p)
		}
	}
	cluster, err := lab.Up(t.Context(), lab.NameOr("fidelity-test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	operator, err := install.Install(t.Context(), cluster, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := load(t.Context(), cluster, quick); err != nil {
		t.Fatal(err)
	}
	r, err := newRunner(operator, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.runAll(t.Context(), quick, 2) {
		if !row.Good() {
			t.Errorf("%s, %s: %s", row.Program, row.Step, row.Outcome)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range programs() {
		if seen[p.Name] {
			t.Errorf("two programs are called %s", p.Name)
		}
		seen[p.Name] = true
	}
}
