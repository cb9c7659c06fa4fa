package main

import (
	"github.com/spf13/cobra"

	"github.com/transparent-checkpoint/operator/internal/report"
)

func (c *cli) whyCommand() *cobra.Command {
	o := &output{}
	command := &cobra.Command{
		Use:   "why POD",
		Short: "Explain a pod: is it protected, how did it begin, what happens when it is deleted, what would it be restored from",
		Example: `  kubectl checkpoint why my-pod
  kubectl checkpoint why my-pod -o json`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: c.podNames(),
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			pod, err := c.pod(command.Context(), k, namespace, args[0])
			if err != nil {
				return err
			}
			s, err := c.snapshot(command.Context(), k, namespace)
			if err != nil {
				return err
			}
			why := report.Explain(s, pod)
			if o.isForAPerson() {
				return why.Write(c.Out)
			}
			return o.value(c, why)
		},
	}
	o.addTo(command, asJSON, asYAML)
	return command
}
