package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// onNode is the first argument with which the program calls its copy on the node.
const onNode = "on-node"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) > 0 && args[0] == onNode {
		return workOnNode(ctx, args[1:])
	}
	return measure(ctx, args)
}

// settings are what a person may choose.
type settings struct {
	cluster       string
	node, other   string
	pairs         int
	mib           int
	referenceOnly bool
	output        string
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&s.cluster, "name", "bench", "the local cluster; it is brought up if need be, and left up")
	flags.StringVar(&s.node, "node", "worker-1", "the node to measure on")
	flags.StringVar(&s.other, "other", "worker-2", "the node to restore on")
	flags.IntVar(&s.pairs, "pairs", 5, "how many pairs to take the median of")
	flags.IntVar(&s.mib, "mib", 2048, "memory of the process, in MiB")
	flags.BoolVar(&s.referenceOnly, "reference-only", false, "measure the references alone, without the operator")
	flags.StringVar(&s.output, "output", "build/bench.jsonl", "where to write a JSON object for each row")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 || s.pairs < 1 || s.mib < 1 {
		return s, errors.New("there are no arguments, and the numbers are 1 or more")
	}
	return s, nil
}
