package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/transparent-checkpoint/operator/internal/report"
)

// every is how often status looks again with --watch.
const every = 2 * time.Second

func (c *cli) statusCommand() *cobra.Command {
	o, watch, all := &output{}, false, true
	command := &cobra.Command{
		Use:   "status",
		Short: "Show how it stands: nodes, pods, Checkpoints, buckets, and what waits for a person",
		Example: `  kubectl checkpoint status
  kubectl checkpoint status --watch`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if !command.Flags().Changed("all-namespaces") && *c.flags.Namespace != "" {
				all = false
			}
			for {
				if err := c.printStatus(command.Context(), o, all, watch); err != nil || !watch {
					return err
				}
				select {
				case <-command.Context().Done():
					return nil
				case <-time.After(every):
				}
			}
		},
	}
	command.Flags().BoolVarP(&watch, "watch", "w", false, "look again every 2 seconds, until it is interrupted")
	command.Flags().BoolVarP(&all, "all-namespaces", "A", true, "the pods and Checkpoints of all namespaces; else those of --namespace")
	o.addTo(command, asJSON, asYAML)
	return command
}

func (c *cli) printStatus(ctx context.Context, o *output, all, watch bool) error {
	k, namespace, err := c.begin()
	if err != nil {
		return err
	}
	if all {
		namespace = ""
	}
	s, err := c.snapshot(ctx, k, namespace)
	if err != nil {
		return err
	}
	status := report.StatusOf(s)
	if !o.isForAPerson() {
		return o.value(c, status)
	}
	if watch {
		fmt.Fprintf(c.Out, "%s\n", s.Now.Format(time.TimeOnly))
	}
	return status.Write(c.Out)
}
