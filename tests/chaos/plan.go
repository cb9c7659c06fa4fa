package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// action is how pods come to their end.
type action string

const (
	deletion   action = "delete"  // one pod
	several    action = "several" // some pods of a workload at once
	eviction   action = "evict"   // one pod, by the API for that
	drain      action = "drain"   // all pods of a node, which takes no new ones for a while
	preemption action = "preempt" // all pods of a node, by the scheduler, for one that is more important
	live       action = "live"    // one pod, while it is captured to go on
)

// cycle is one turn: what is done, and what breaks meanwhile.
type cycle struct {
	Number int
	Action action
	// Workload and Pod say which pod; Pod is taken modulo the number of pods that there are.
	Workload, Pod int
	// Many is how many pods end, where it is several.
	Many  int
	Fault fault
	// Delay is when the fault comes, counted from the action; negative is before it.
	Delay time.Duration
	// Lasts is for how long, if it is one that lasts.
	Lasts time.Duration
}

func (c cycle) String() string {
	text := fmt.Sprintf("%s pod %d of workload %d, %s", c.Action, c.Pod, c.Workload, c.Fault.name)
	if c.Action == several {
		text = fmt.Sprintf("delete %d pods of workload %d, %s", c.Many, c.Workload, c.Fault.name)
	}
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
	settings
	random *rand.Rand
	deck   []fault
	count  int
}

func newPlan(s settings) *plan { return &plan{settings: s, random: rand.New(rand.NewPCG(s.seed, 0))} }

func (p *plan) next() cycle {
	if len(p.deck) == 0 {
		p.deck = p.faults()
		p.random.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
	}
	c := cycle{Number: p.count + 1, Fault: p.deck[0]}
	p.deck = p.deck[1:]
	p.count++
	actions := []action{deletion, deletion, several, several, eviction, drain, preemption, live}
	c.Action = actions[p.random.IntN(len(actions))]
	c.Workload, c.Pod, c.Many = p.random.IntN(len(kinds)), p.random.IntN(p.pods), 2+p.random.IntN(max(1, p.pods-1))
	c.Delay = time.Duration(p.random.IntN(40)-8) * 100 * time.Millisecond
	c.Lasts = time.Duration(2+p.random.IntN(14)) * time.Second
	return c
}
