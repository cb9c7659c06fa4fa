package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// action is how pods come to their end.
type action string

const (
	deletion action = "delete" // one pod
	both     action = "both"   // two pods of a workload at once
	eviction action = "evict"  // one pod, by the API for that
	drain    action = "drain"  // all pods of a node, which takes no new ones for a while
)

// cycle is one turn: what is done, and what breaks meanwhile.
type cycle struct {
	Number int
	Action action
	// Workload and Pod say which pod; Pod is taken modulo the number of pods that there are.
	Workload, Pod int
	Fault         fault
	// Delay is when the fault comes, counted from the action; negative is before it.
	Delay time.Duration
	// Lasts is for how long, if it is one that lasts.
	Lasts time.Duration
}

func (c cycle) String() string {
	text := fmt.Sprintf("%s pod %d of workload %d, %s", c.Action, c.Pod, c.Workload, c.Fault.name)
	if c.Fault.lasts {
		text += fmt.Sprintf(" for %s", c.Lasts)
	}
	if c.Fault.step == "" {
		text += fmt.Sprintf(" at %s", c.Delay)
	}
	return text
}

// plan draws cycles: the same from the same seed. Faults come in turns, each once before one comes again.
type plan struct {
	random *rand.Rand
	deck   []fault
	count  int
}

func newPlan(seed uint64) *plan { return &plan{random: rand.New(rand.NewPCG(seed, 0))} }

func (p *plan) next() cycle {
	if len(p.deck) == 0 {
		p.deck = faults()
		p.random.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
	}
	c := cycle{Number: p.count + 1, Fault: p.deck[0]}
	p.deck = p.deck[1:]
	p.count++
	c.Action = []action{deletion, deletion, deletion, both, eviction, drain}[p.random.IntN(6)]
	c.Workload, c.Pod = p.random.IntN(len(kinds)), p.random.IntN(replicas)
	c.Delay = time.Duration(p.random.IntN(40)-8) * 100 * time.Millisecond
	c.Lasts = time.Duration(2+p.random.IntN(14)) * time.Second
	return c
}
