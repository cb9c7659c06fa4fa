// Command localcluster runs real Kubernetes clusters, with CRIU, on one Linux machine: no virtual machine, no container engine, no
// image registry. See docs/local-cluster.md.
//
// Each cluster is one tree of processes: the supervisor (package plane) is process 1 of a PID namespace and runs the control plane and
// the nodes (package node), each again process 1 of namespaces of its own. This folder holds the command line, a file per verb.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/transparent-checkpoint/operator/tests/cluster/progress"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// command is what every verb is given: the cluster that --name names and a place for progress.
type command struct {
	name string
	log  *progress.Log
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if ended, ok := err.(*exec.ExitError); ok { //nolint:errorlint // unwrapped: of a command on a node, which has said why
		os.Exit(ended.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "localcluster:", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	c := &command{log: progress.New(os.Stderr)}
	root := &cobra.Command{
		Use:           "localcluster",
		Short:         "A real Kubernetes with CRIU on one Linux machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&c.name, "name", cmp.Or(os.Getenv("LOCALCLUSTER_NAME"), spec.DefaultName),
		"the cluster's name, or LOCALCLUSTER_NAME; several may run at once")
	root.AddCommand(c.up(), c.down(), c.status(), c.kubeconfig(), c.kubectl(), c.bucket(), c.image(), c.node(), c.component(), c.logs(), c.build())
	root.AddCommand(c.supervise(), c.nodeInit(), c.registry(), c.enter())
	return root
}

// cluster checks the name that was given.
func (c *command) cluster() (spec.Cluster, error) { return spec.Named(c.name) }

// existing returns a cluster that was brought up, and what it was asked to be.
func (c *command) existing() (spec.Cluster, *spec.State, error) {
	cluster, err := c.cluster()
	if err != nil {
		return cluster, nil, err
	}
	state, err := cluster.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return cluster, nil, fmt.Errorf("there is no cluster %q; `localcluster up --name %s` makes one", c.name, c.name)
	}
	return cluster, state, err
}
