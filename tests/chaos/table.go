package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// row is what came of the cycles with one fault.
type row struct {
	Cycles  int     `json:"cycles"`
	Hit     int     `json:"hit"`
	Slowest float64 `json:"slowestSeconds"`
}

// result is a line of the file: a run.
type result struct {
	Time   time.Time `json:"time"`
	Seed   uint64    `json:"seed"`
	Cycles int       `json:"cycles"`
	// Numbers is how many were told, Restores how often a life went on in another pod.
	Numbers  int `json:"numbers"`
	Restores int `json:"restores"`
	// Cold are the pods that began from scratch, by what they say.
	Cold map[string]int `json:"cold"`
	// Left are the states that nobody went on from, and somebody still may; Lost those that a fault may take.
	Left       int             `json:"left"`
	Lost       int             `json:"lost"`
	Faults     map[string]*row `json:"faults"`
	Violations []string        `json:"violations"`
}

func newResult(s settings) result {
	return result{Time: time.Now().UTC(), Seed: s.seed, Cold: map[string]int{}, Faults: map[string]*row{}, Violations: []string{}}
}

func (r *result) count(c cycle, hit bool, took time.Duration) {
	r.Cycles++
	f := r.Faults[c.Fault.name]
	if f == nil {
		f = &row{}
		r.Faults[c.Fault.name] = f
	}
	f.Cycles++
	if hit {
		f.Hit++
	}
	f.Slowest = max(f.Slowest, took.Seconds())
}

func (r *result) cold(reason string) { r.Cold[reason]++ }

// finish adds what the books have.
func (r *run) finish() *result {
	numbers, restores, violations := r.books.state()
	r.result.Numbers, r.result.Restores, r.result.Violations = numbers, restores, append(r.result.Violations, violations...)
	return &r.result
}

// add adds the run to a file, a line for each.
func (r *result) add(path string) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (r *result) print(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.TabIndent)
	fmt.Fprintln(table, "fault\tcycles\thit\tslowest\t")
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		f := r.Faults[name]
		fmt.Fprintf(table, "%s\t%d\t%d\t%.0f s\t\n", name, f.Cycles, f.Hit, f.Slowest)
	}
	_ = table.Flush()
	fmt.Fprintf(out, "\nseed %d: %d cycles, %d numbers told, %d times a state went on in another pod\n", r.Seed, r.Cycles, r.Numbers, r.Restores)
	fmt.Fprintf(out, "from scratch, and said: %v; states that are there still: %d; lost, as the fault may: %d\n", r.Cold, r.Left, r.Lost)
	for _, v := range r.Violations {
		fmt.Fprintln(out, "VIOLATION:", v)
	}
	fmt.Fprintf(out, "%d violations\n", len(r.Violations))
}
