package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/report"
)

func (c *cli) listCommand() *cobra.Command {
	o, all := &output{}, false
	command := &cobra.Command{
		Use:     "list [WORKLOAD|POD]",
		Aliases: []string{"ls", "get"},
		Short:   "List Checkpoints by workload, the newest first, with what a new pod would be restored from",
		Example: `  kubectl checkpoint list
  kubectl checkpoint list deployment/web -o wide
  kubectl checkpoint list -A`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			workload := ""
			if len(args) > 0 {
				workload = args[0]
			}
			if all {
				namespace = ""
			}
			s, err := c.snapshot(command.Context(), k, namespace)
			if err != nil {
				return err
			}
			listed, err := report.List(s, workload)
			if err != nil {
				return err
			}
			return c.printList(o, s, listed)
		},
	}
	command.Flags().BoolVarP(&all, "all-namespaces", "A", false, "those of all namespaces")
	o.addTo(command, wide, asJSON, asYAML, justName)
	return command
}

func (c *cli) printList(o *output, s *report.Snapshot, listed []report.Listed) error {
	if o.isForAPerson() {
		if len(listed) == 0 {
			where := "no namespace"
			if s.Namespace != nil {
				where = "namespace " + s.Namespace.Name
			}
			fmt.Fprintf(c.ErrOut, "There are no Checkpoints in %s. One is made when a pod with the label memverge.ai/checkpoint-mode is deleted;\n"+
				"kubectl checkpoint why POD tells whether a pod would be.\n", where)
			return nil
		}
		return report.WriteList(c.Out, s, listed, o.format == wide)
	}
	list := &v1alpha1.CheckpointList{}
	for _, l := range listed {
		if o.format == justName { // a list has none
			if err := o.object(c, l.Checkpoint); err != nil {
				return err
			}
			continue
		}
		list.Items = append(list.Items, *l.Checkpoint)
	}
	if o.format == justName {
		return nil
	}
	return o.object(c, list)
}
