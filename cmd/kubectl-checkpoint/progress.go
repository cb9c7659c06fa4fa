package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/report"
)

// glance is how often follow looks.
const glance = 250 * time.Millisecond

// follow shows how far a Checkpoint comes, until its state is stored. On a terminal that is one line that changes, else a line for each step.
func (c *cli) follow(ctx context.Context, k client.Client, wanted *v1alpha1.Checkpoint, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p := &progress{out: c.ErrOut, isTerminal: isTerminal(c.ErrOut), began: time.Now()}
	for {
		now := &v1alpha1.Checkpoint{}
		err := k.Get(ctx, client.ObjectKeyFromObject(wanted), now)
		switch {
		case apierrors.IsNotFound(err):
			return p.end(fmt.Errorf("the Checkpoint %s was deleted", wanted.Name))
		case err != nil && ctx.Err() == nil:
			return p.end(explained(err))
		case err == nil:
			p.show(report.ProgressOf(now, time.Now()))
			if done, err := report.Outcome(now); done {
				return p.end(err)
			}
		}
		select {
		case <-ctx.Done():
			return p.end(fmt.Errorf("it is not stored after %s: %w; it goes on without this command", timeout, ctx.Err()))
		case <-time.After(glance):
		}
	}
}

func isTerminal(out io.Writer) bool {
	file, isFile := out.(*os.File)
	return isFile && term.IsTerminal(int(file.Fd()))
}

// progress prints what changes.
type progress struct {
	out        io.Writer
	isTerminal bool
	began      time.Time
	last       string
}

func (p *progress) show(now report.Progress) {
	line := now.Line(p.isTerminal)
	if line == p.last {
		return
	}
	p.last = line
	if p.isTerminal {
		fmt.Fprintf(p.out, "\r\033[K%s", line)
		return
	}
	fmt.Fprintf(p.out, "%6s  %s\n", time.Since(p.began).Round(100*time.Millisecond), line)
}

// end leaves the line of a terminal.
func (p *progress) end(err error) error {
	if p.isTerminal && p.last != "" {
		fmt.Fprintln(p.out)
	}
	return err
}
