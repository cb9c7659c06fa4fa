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

// inOrder puts the captures of pods that go on behind all others.
func (a *Agent) inOrder(dirs []string) []string {
	goesOn := map[string]int{}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, dir := range dirs {
		p := a.work[dir]
		if p == nil {
			p = &publication{}
			if record, err := capture.Read(dir); err == nil { // else the look at it finds out
				p.goesOn = !record.Trigger.IsTermination()
			}
			a.work[dir] = p
		}
		if p.goesOn {
			goesOn[dir] = 1
		}
	}
	slices.SortStableFunc(dirs, func(x, y string) int { return goesOn[x] - goesOn[y] })
	return dirs
}
