package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/transparent-checkpoint/operator/generated/clientset/versioned"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

func main() {
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// settings are what a person may choose.
type settings struct {
	cluster     string
	pods        int
	checkpoints int
	steps       int
	output      string
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.StringVar(&s.cluster, "name", "scale", "the local cluster; it is brought up, and taken down at the end")
	flags.IntVar(&s.pods, "pods", 10000, "how many labelled pods there are in the end")
	flags.IntVar(&s.checkpoints, "checkpoints", 30000, "how many Checkpoints there are in the end")
	flags.IntVar(&s.steps, "steps", 4, "in how many steps, with a row each")
	flags.StringVar(&s.output, "output", "build/scale.jsonl", "where to write a JSON object for each row")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 || s.steps < 1 || s.pods < s.steps || s.checkpoints < s.steps {
		return s, errors.New("there are no arguments; -steps is 1 or more, and -pods and -checkpoints are as many or more")
	}
	return s, nil
}

// quietPatience is for how long the manager may be at work on a step after all of it was made.
const quietPatience = 20 * time.Minute

func start(args []string) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cluster, err := lab.Up(ctx, s.cluster)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Down(context.WithoutCancel(ctx))) }()
	if _, err := install.Install(ctx, cluster, nil); err != nil {
		return err
	}
	f, err := newFiller(ctx, cluster)
	if err != nil {
		return err
	}
	var rows []row
	for step := 1; step <= s.steps; step++ {
		row, err := f.step(ctx, s.pods*step/s.steps, s.checkpoints*step/s.steps)
		if err != nil {
			return err
		}
		rows = append(rows, row)
		fmt.Fprintf(os.Stderr, "%d pods, %d Checkpoints: done after %s\n", row.Pods, row.Checkpoints, row.took.Round(time.Second))
	}
	if err := write(rows, s.output); err != nil {
		return err
	}
	show(os.Stdout, rows)
	return nil
}

// newFiller connects without a limit of its own, and makes the nodes and namespaces.
func newFiller(ctx context.Context, cluster *lab.Cluster) (*filler, error) {
	config := rest.CopyConfig(cluster.Config)
	config.QPS, config.Timeout = -1, time.Minute
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	checkpoints, err := versioned.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	f := &filler{client: client, checkpoints: checkpoints}
	return f, f.prepare(ctx)
}
