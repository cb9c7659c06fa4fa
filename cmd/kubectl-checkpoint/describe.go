package main

import (
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/report"
)

func (c *cli) describeCommand() *cobra.Command {
	o := &output{}
	command := &cobra.Command{
		Use:     "describe CHECKPOINT",
		Short:   "Show all that is known of a Checkpoint: timings, contents, what it needs of a node, events",
		Example: `  kubectl checkpoint describe web-5c9d-1f2e3d4c`,
		Args:    cobra.ExactArgs(1), ValidArgsFunction: c.checkpointNames(),
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			found, err := c.checkpoint(command.Context(), k, namespace, args[0])
			if err != nil {
				return err
			}
			if !o.isForAPerson() {
				return o.object(c, found)
			}
			s, err := c.snapshot(command.Context(), k, namespace)
			if err != nil {
				return err
			}
			events := &corev1.EventList{}
			if err := optional(command.Context(), k, events, s, "events", client.InNamespace(namespace)); err != nil {
				return explained(err)
			}
			var about []corev1.Event
			for _, e := range events.Items {
				if e.InvolvedObject.UID == found.UID {
					about = append(about, e)
				}
			}
			return report.Describe(c.Out, s, found, about)
		},
	}
	o.addTo(command, asJSON, asYAML, justName)
	return command
}
