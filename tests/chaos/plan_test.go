package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestASeedIsAPlan(t *testing.T) {
	drawn := func(seed uint64, many int) (texts []string) {
		p := newPlan(settings{seed: seed, pods: 2})
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
	p, seen := newPlan(settings{seed: 1, pods: 2}), map[string]int{}
	for range 2 * len(faults()) {
		seen[p.next().Fault.name]++
	}
	for _, f := range faults() {
		if seen[f.name] != 2 {
			t.Errorf("%s comes %d times of 2", f.name, seen[f.name])
		}
	}
}

func TestOnlySomeFaultsAreDrawn(t *testing.T) {
	s, err := parse([]string{"-only", "^bucket"})
	if err != nil {
		t.Fatal(err)
	}
	for p := newPlan(s); p.count < 30; {
		if name := p.next().Fault.name; !strings.HasPrefix(name, "bucket") {
			t.Errorf("%s is drawn", name)
		}
	}
	for _, args := range [][]string{{"-only", "("}, {"-only", "no such fault"}, {"-pods", "1"}, {"-pods", "21"}, {"-memory", "0"}, {"-minutes", "0"}, {"x"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v are taken", args)
		}
	}
}
