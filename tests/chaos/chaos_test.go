package main

import (
	"context"
	"testing"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// TestThreeMinutesOfChaos is a short run, in which everything is drawn as the last time.
func TestThreeMinutesOfChaos(t *testing.T) {
	if reason := lab.Unable(); reason != "" {
		t.Skip(reason)
	}
	s, err := parse([]string{"--name", lab.NameOr("chaos"), "--minutes", "3", "--seed", "6", "--output", t.TempDir() + "/chaos.jsonl"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := (&lab.Cluster{Name: s.cluster}).Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	cluster, err := lab.Up(t.Context(), s.cluster)
	if err != nil {
		t.Fatal(err)
	}
	result, err := chaos(t.Context(), cluster, s, t.Logf)
	if result != nil {
		result.print(t.Output())
		for _, violation := range result.Violations {
			t.Error(violation)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if result.Restores == 0 {
		t.Error("no state went on in another pod")
	}
}
