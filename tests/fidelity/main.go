package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fidelity:", err)
		os.Exit(1)
	}
}

// settings are what a person may choose.
type settings struct {
	cluster  string
	only     string
	atOnce   int
	output   string
	document string
}

func run(args []string) error {
	var s settings
	flags := flag.NewFlagSet("fidelity", flag.ContinueOnError)
	flags.StringVar(&s.cluster, "name", "fidelity", "the local cluster; it is brought up if need be, and left up")
	flags.StringVar(&s.only, "only", "", "a regular expression: run only the programs whose names it matches")
	flags.IntVar(&s.atOnce, "at-once", 2, "how many programs run at the same time")
	flags.StringVar(&s.output, "output", "build/fidelity.jsonl", "where to write a JSON object for each row")
	flags.StringVar(&s.document, "document", "", "a document whose table of programs is written anew")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || s.atOnce < 1 {
		return errors.New("there are no arguments, and at least 1 program runs at once")
	}
	programs, err := choose(s.only)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rows, err := s.runAll(ctx, programs)
	if err != nil {
		return err
	}
	return s.write(rows)
}

// choose returns the programs whose names match an expression.
func choose(only string) ([]Program, error) {
	expression, err := regexp.Compile(only)
	if err != nil {
		return nil, fmt.Errorf("--only is %q: %w", only, err)
	}
	var chosen []Program
	for _, p := range programs() {
		if expression.MatchString(p.Name) {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("--only is %q, which matches the name of no program", only)
	}
	return chosen, nil
}

func (s settings) runAll(ctx context.Context, programs []Program) ([]Row, error) {
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "[%s] %s\n", time.Since(began).Round(time.Second), fmt.Sprintf(format, args...))
	}
	say("cluster %q and the operator", s.cluster)
	cluster, err := lab.Up(ctx, s.cluster)
	if err != nil {
		return nil, err
	}
	operator, err := install.Install(ctx, cluster, nil)
	if err != nil {
		return nil, err
	}
	say("the images of %d programs", len(programs))
	if err := load(ctx, cluster, programs); err != nil {
		return nil, err
	}
	r, err := newRunner(operator, say)
	if err != nil {
		return nil, err
	}
	return r.runAll(ctx, programs, s.atOnce), nil
}

// runAll runs programs, so many at once, and returns their rows in the programs' order.
func (r *runner) runAll(ctx context.Context, programs []Program, atOnce int) []Row {
	found := make([][]Row, len(programs))
	turns := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, p := range programs {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			found[i] = r.run(ctx, p)
		})
	}
	group.Wait()
	var rows []Row
	for _, some := range found {
		rows = append(rows, some...)
	}
	return rows
}

// write puts the rows where they were asked for. That one is not as expected is an error.
func (s settings) write(rows []Row) error {
	if err := writeTable(os.Stdout, rows); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.output), 0o755); err != nil {
		return err
	}
	file, err := os.Create(s.output)
	if err != nil {
		return err
	}
	if err := errors.Join(writeLines(file, rows), file.Close()); err != nil {
		return err
	}
	if s.document != "" {
		if err := document(s.document, rows); err != nil {
			return err
		}
	}
	bad := 0
	for _, r := range rows {
		if !r.Good() {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d rows are not as expected", bad, len(rows))
	}
	return nil
}
