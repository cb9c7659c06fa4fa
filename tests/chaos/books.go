package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// told is what a witness answers.
type told struct {
	Life  string `json:"life"`
	Count int    `json:"count"`
}

// holder is a pod that spoke for a life.
type holder struct {
	namespace, name string
	uid             types.UID
}

// life is what began from scratch once, and goes on in one pod after another.
type life struct {
	last    int
	holders []holder  // in their order; the last one is that which speaks
	since   time.Time // when that one spoke first
}

// books have everything that was told. They know what may follow: a number that is higher, from the pod that spoke last or from one that never did.
type books struct {
	mu         sync.Mutex
	lives      map[string]*life
	of         map[types.UID]string // the life that a pod speaks for
	began      []beginning
	handovers  int
	numbers    int
	violations []string
}

// beginning is a life that began.
type beginning struct {
	life string
	holder
}

func newBooks() *books { return &books{lives: map[string]*life{}, of: map[types.UID]string{}} }

// violate writes down what must not be.
func (b *books) violate(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.violateLocked(format, args...)
}

func (b *books) violateLocked(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(b.violations, text) {
		b.violations = append(b.violations, text)
	}
}

// note writes down what a pod told when it was asked at a time. An answer that was on its way while the life went on elsewhere is late, and proves nothing.
func (b *books) note(pod holder, t told, asked time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.numbers++
	l := b.lives[t.Life]
	if l != nil && l.holders[len(l.holders)-1].uid != pod.uid && asked.Before(l.since) {
		return
	}
	if l == nil {
		l = &life{}
		b.lives[t.Life] = l
		b.began = append(b.began, beginning{t.Life, pod})
	}
	if was := b.of[pod.uid]; was != t.Life {
		if was != "" && len(l.holders) > 0 {
			b.violateLocked("pod %s spoke for life %s, and now for %s, which is another pod's", pod.name, was, t.Life)
		}
		if slices.ContainsFunc(l.holders, func(h holder) bool { return h.uid == pod.uid }) {
			b.violateLocked("pod %s speaks for life %s again, after another pod did", pod.name, t.Life)
		}
		if len(l.holders) > 0 {
			b.handovers++
		}
		b.of[pod.uid] = t.Life
		l.holders, l.since = append(l.holders, pod), time.Now()
	} else if l.holders[len(l.holders)-1].uid != pod.uid {
		b.violateLocked("life %s is in two pods: %s and %s both speak for it", t.Life, pod.name, l.holders[len(l.holders)-1].name)
	}
	if t.Count <= l.last {
		b.violateLocked("life %s went back: pod %s tells %d, after %d was told", t.Life, pod.name, t.Count, l.last)
	}
	l.last = max(l.last, t.Count)
}

// takeBeginnings returns the lives that began since it was last asked.
func (b *books) takeBeginnings() []beginning {
	b.mu.Lock()
	defer b.mu.Unlock()
	began := b.began
	b.began = nil
	return began
}

// without returns the lives, and who spoke for each last, that none of these pods speaks for.
func (b *books) without(pods []holder) (left map[string]holder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left = map[string]holder{}
	for name, l := range b.lives {
		last := l.holders[len(l.holders)-1]
		if !slices.ContainsFunc(pods, func(h holder) bool { return h.uid == last.uid && b.of[h.uid] == name }) {
			left[name] = last
		}
	}
	return left
}

// lastOf returns the number that a pod told last; 0 is none.
func (b *books) lastOf(uid types.UID) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.lives[b.of[uid]]; l != nil {
		return l.last
	}
	return 0
}

// state is what there is to print.
func (b *books) state() (numbers, handovers int, violations []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.numbers, b.handovers, slices.Clone(b.violations)
}
