// Package progress tells a waiting person what is going on and for how long: one line when a step begins, one when it ends, and one
// now and then in between. It writes whole lines only, so that the output of steps at the same time stays readable, also in a file.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// remindAfter is how often a step that goes on says so.
const remindAfter = 30 * time.Second

// Log writes the progress of one command. The zero value is not usable; see New.
type Log struct {
	out     io.Writer
	started time.Time
	mu      sync.Mutex
}

// New returns a log whose clock starts now.
func New(out io.Writer) *Log { return &Log{out: out, started: time.Now()} }

// Printf writes one line, with the time since the start of the command before it.
func (l *Log) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	elapsed := time.Since(l.started).Round(time.Second)
	fmt.Fprintf(l.out, "[%02d:%02d] %s\n", int(elapsed.Minutes()), int(elapsed.Seconds())%60, fmt.Sprintf(format, args...))
}

// Step runs a piece of work and tells of its beginning, its course and its end. The note says what a person should know beforehand,
// as how long it may take; it may be empty.
func (l *Log) Step(name, note string, work func() error) error {
	if note != "" {
		note = " (" + note + ")"
	}
	l.Printf("%s%s …", name, note)
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- work() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			l.Printf("%s: done in %s", name, time.Since(began).Round(100*time.Millisecond))
			return nil
		case <-time.After(remindAfter):
			l.Printf("%s: still at it after %s", name, time.Since(began).Round(time.Second))
		}
	}
}
