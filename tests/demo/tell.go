package main

import (
	"fmt"
	"strings"
	"time"
)

// teller writes for a person: a line for each step, with the time it took.
type teller struct{ began time.Time }

func newTeller() *teller { return &teller{began: time.Now()} }

func (t *teller) title(text string) { fmt.Printf("\n== %s\n", text) }

func (t *teller) say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func (t *teller) sinceStart() time.Duration { return time.Since(t.began).Round(time.Second) }

// column is where the times of steps stand.
const column = 84

// step runs a piece of work: its line begins when the work does, and is completed at its end.
func (t *teller) step(name string, work func() error) error {
	fmt.Printf("%s …", name)
	began := time.Now()
	if err := work(); err != nil {
		fmt.Println(" failed")
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Printf("%s %6.1f s\n", strings.Repeat(" ", max(0, column-2-len([]rune(name)))), time.Since(began).Seconds())
	return nil
}

// show prints lines as a block of their own.
func (t *teller) show(lines ...string) {
	for _, line := range lines {
		fmt.Println("    " + line)
	}
}
