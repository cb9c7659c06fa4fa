package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestASeedIsAPlan(t *testing.T) {
	drawn := func(seed uint64, many int) (texts []string) {
		p := newPlan(seed)
		for range many {
			texts = append(texts, p.next().String())
		}
		return texts
	}
	if diff := cmp.Diff(drawn(7, 100), drawn(7, 100)); diff != "" {
		t.Errorf("the same seed draws something else: %s", diff)
	}
	if cmp.Equal(drawn(7, 100), drawn(8, 100)) {
		t.Error("another seed draws the same")
	}
}

func TestEachFaultComesInItsTurn(t *testing.T) {
	p, seen := newPlan(1), map[string]int{}
	for range 2 * len(faults()) {
		seen[p.next().Fault.name]++
	}
	for _, f := range faults() {
		if seen[f.name] != 2 {
			t.Errorf("%s comes %d times of 2", f.name, seen[f.name])
		}
	}
}
