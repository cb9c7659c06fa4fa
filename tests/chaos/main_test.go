package main

import (
	"context"
	"testing"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// TestThreeMinutes runs cycles of a fixed seed on a cluster.
func TestThreeMinutes(t *testing.T) {
	if reason := lab.Unable(); reason != "" {
		t.Skip(reason)
	}
	cluster, err := lab.Up(t.Context(), lab.NameOr("chaos-test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	result, err := chaos(t.Context(), cluster, settings{minutes: 3, seed: 1}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	result.print(t.Output())
	if result.Cycles == 0 || result.Restores == 0 {
		t.Errorf("there were %d cycles, and %d restores", result.Cycles, result.Restores)
	}
	for _, v := range result.Violations {
		t.Error(v)
	}
}
