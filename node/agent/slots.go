package agent

import (
	"slices"
	"sync"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// slots are the places of uploads. What a pod left behind that is gone has no other copy, so its upload does not count those of pods that go on: it never
// waits for one of them, which from then on yields to it wherever both need the same (storage/turn).
type slots struct {
	most int

	mu   sync.Mutex
	held map[bool]int // by whether the pod goes on
}

func newSlots(most int) *slots { return &slots{most: most, held: map[bool]int{}} }

// take takes a place, and returns what gives it back; nil if there is none.
func (s *slots) take(goesOn bool) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held[false]
	if goesOn {
		held += s.held[true]
	}
	if held >= s.most {
		return nil
	}
	s.held[goesOn]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held[goesOn]--
	}
}

// inOrder puts the captures of pods that go on behind all others. Of those that are alike in that, namespaces take turns: one that has many on their
// way already comes after one that has few. Within a namespace the oldest goes first.
func (a *Agent) inOrder(dirs []string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := make(map[string]*publication, len(dirs))
	for _, dir := range dirs {
		of[dir] = a.publicationOf(dir)
	}
	slices.SortStableFunc(dirs, func(x, y string) int { return of[x].began.Compare(of[y].began) })
	type queue struct {
		goesOn    bool
		namespace string
	}
	before, turn := map[queue]int{}, map[string]int{}
	for _, p := range of {
		if p.busy {
			before[queue{p.goesOn, p.namespace}]++
		}
	}
	for _, dir := range dirs {
		q := queue{of[dir].goesOn, of[dir].namespace}
		turn[dir] = before[q]
		if !of[dir].busy && !isUploadedFrom(dir) { // what waits
			before[q]++
		}
	}
	slices.SortStableFunc(dirs, func(x, y string) int {
		if of[x].goesOn != of[y].goesOn {
			if of[x].goesOn {
				return 1
			}
			return -1
		}
		return turn[x] - turn[y]
	})
	return dirs
}

// publicationOf returns what is remembered of a folder, or begins with what its record says; where there is none yet, the look at it finds out.
func (a *Agent) publicationOf(dir string) *publication {
	p := a.work[dir]
	if p == nil {
		p = &publication{}
		a.work[dir] = p
	}
	if p.namespace == "" {
		if record, err := capture.Read(dir); err == nil {
			p.goesOn, p.namespace, p.began = !record.Trigger.IsTermination(), record.Pod.Namespace, record.Started
		}
	}
	return p
}
