package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

func main() {
	if err := start(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// settings are what a person may choose.
type settings struct {
	cluster string
	minutes float64
	cycles  int
	seed    uint64
	pods    int
	memory  int
	only    *regexp.Regexp
	output  string
}

func parse(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.StringVar(&s.cluster, "name", "chaos", "the local cluster; it is brought up if need be, and left up")
	flags.Float64Var(&s.minutes, "minutes", 10, "for how long new cycles begin")
	flags.IntVar(&s.cycles, "cycles", 0, "how many cycles there are at most; 0 is no bound")
	flags.Uint64Var(&s.seed, "seed", 1, "what cycles are drawn from: the same seed draws the same")
	flags.IntVar(&s.pods, "pods", 2, "how many pods a workload has")
	flags.IntVar(&s.memory, "memory", 24, "how many MiB of memory a pod fills")
	flags.Func("only", "faults that a regular expression finds, in place of all", func(text string) (err error) {
		s.only, err = regexp.Compile(text)
		return err
	})
	flags.StringVar(&s.output, "output", "build/chaos.jsonl", "where to add a JSON object for the run")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 || s.minutes <= 0 || s.cycles < 0 || s.pods < 2 || s.pods > seatsOfANode/len(kinds) || s.memory < 1 {
		return s, fmt.Errorf("there are no arguments; -minutes is more than 0, -cycles 0 or more, -pods 2 to %d, -memory 1 or more", seatsOfANode/len(kinds))
	}
	if len(s.faults()) == 0 {
		return s, fmt.Errorf("-only is %s, and no fault has such a name; their names are the first column of the table", s.only)
	}
	return s, nil
}

// faults are those that may be drawn.
func (s settings) faults() []fault {
	return slices.DeleteFunc(faults(), func(f fault) bool { return s.only != nil && !s.only.MatchString(f.name) })
}

func start(args []string) error {
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
	result, err := chaos(ctx, cluster, s, func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
	if err != nil {
		return err
	}
	if err := result.add(s.output); err != nil {
		return err
	}
	result.print(os.Stdout)
	if len(result.Violations) > 0 {
		return fmt.Errorf("%d violations", len(result.Violations))
	}
	return nil
}

// chaos installs the operator on a cluster in the build that looks for wishes, and runs cycles. What it finds is in the result; an error is one of the
// run itself.
func chaos(ctx context.Context, cluster *lab.Cluster, s settings, log func(string, ...any)) (*result, error) {
	if err := os.Setenv("BUILD_TAGS", "failpoints"); err != nil { // of the make that builds the images
		return nil, err
	}
	defer func() { _ = os.Unsetenv("BUILD_TAGS") }() // it is one
	operator, err := install.Install(ctx, cluster, nil)
	if err != nil {
		return nil, err
	}
	if err := loadWitness(ctx, cluster); err != nil {
		return nil, err
	}
	between, away := context.WithCancel(ctx)
	defer away()
	r := newRun(cluster, operator, s, log)
	if r.bucket, err = standBetween(between, operator); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	asking, end := context.WithCancel(ctx)
	asked := make(chan struct{})
	go func() { r.ask(asking); close(asked) }()
	err = r.cycles(ctx)
	if err == nil {
		err = r.quiet(ctx)
	}
	end()
	<-asked
	if err == nil {
		err = r.leaveNothing(ctx)
	}
	status, unread := cluster.ReadStatus(context.WithoutCancel(ctx))
	return r.finish(), errors.Join(err, unread, lead(context.WithoutCancel(ctx), operator, status.S3.InCluster))
}

const witnessImage = "localhost/witness:chaos"

func loadWitness(ctx context.Context, cluster *lab.Cluster) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	binary := filepath.Join(root, "build/images/witness")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./tests/images/witness")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build witness: %w: %s", err, output)
	}
	_, err = lab.Localcluster(ctx, cluster.Name, "image", "build", witnessImage, "--binary="+binary)
	return err
}

// patience is how long the workloads may take to be whole again: a pod without an agent starts after five minutes (design R1).
const patience = 7 * time.Minute
