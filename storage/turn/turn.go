// Package turn says who goes first where transfers wait for each other: for memory, for bandwidth, for a buffer.
//
// Who waits is in no hurry if its context says so (Background); all others go first: restores, and the upload of a state of which the pod is gone. So the
// one mark reaches every queue below a call, whatever stores lie in between. It imports the standard library alone. Start reading at Line.
package turn

import (
	"context"
	"sync"
	"time"
)

type background struct{}

// Background returns a context of work that lets all other go first.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, background{}, true)
}

// IsBackground tells whether a context is one of such work.
func IsBackground(ctx context.Context) bool { return ctx.Value(background{}) != nil }

// Line gives out places. Those who find none wait in the order in which they came, background work behind all other; but it never waits for ever: it goes
// ahead of what came more than its patience later.
//
// Background work holds at most half of the places, or the one that there is, however long it has waited. So others find one soon, also where a place is
// given back slowly, such as a buffer that is sent at a low bandwidth.
type Line struct {
	places   int
	most     int // that background work may hold
	patience time.Duration

	mu      sync.Mutex
	held    [2]int       // by all others, and by background work
	waiting [2][]*waiter // the same, in the order in which they came
}

type waiter struct {
	since time.Time
	turn  chan struct{} // closed when it has its place
}

// NewLine returns a line with so many places, one or more.
func NewLine(places int, patience time.Duration) *Line {
	places = max(places, 1)
	return &Line{places: places, most: places - places/2, patience: patience}
}

// Places returns how many places there are.
func (l *Line) Places() int { return l.places }

// Wait waits for a place, and returns what gives it back; or the error of the context, when that ends.
func (l *Line) Wait(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	class := 0
	if IsBackground(ctx) {
		class = 1
	}
	me := &waiter{since: time.Now(), turn: make(chan struct{})}
	l.mu.Lock()
	l.waiting[class] = append(l.waiting[class], me)
	l.serve()
	l.mu.Unlock()
	leave = sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held[class]--
		l.serve()
	})
	select {
	case <-me.turn:
		return leave, nil
	case <-ctx.Done():
	}
	if !l.forget(class, me) { // it got its place at this moment
		leave()
	}
	return nil, ctx.Err()
}

// forget removes one that waits; false if it waits no longer.
func (l *Line) forget(class int, me *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.waiting[class] {
		if w == me {
			l.waiting[class] = append(l.waiting[class][:i:i], l.waiting[class][i+1:]...)
			return true
		}
	}
	return false
}

// serve gives out the places that are free.
func (l *Line) serve() {
	for l.held[0]+l.held[1] < l.places {
		class := l.next()
		if class < 0 {
			return
		}
		close(l.waiting[class][0].turn)
		l.waiting[class] = l.waiting[class][1:]
		l.held[class]++
	}
}

// next returns which of the two is next; -1 if none is.
func (l *Line) next() int {
	mayBackground := len(l.waiting[1]) > 0 && l.held[1] < l.most
	switch {
	case len(l.waiting[0]) == 0 && !mayBackground:
		return -1
	case len(l.waiting[0]) == 0:
		return 1
	case mayBackground && l.waiting[0][0].since.Sub(l.waiting[1][0].since) > l.patience:
		return 1
	}
	return 0
}
