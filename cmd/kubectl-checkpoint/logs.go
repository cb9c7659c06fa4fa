package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/inspect"
)

func (c *cli) logsCommand() *cobra.Command {
	o, restore := &output{}, false
	command := &cobra.Command{
		Use:   "logs CHECKPOINT",
		Short: "Show CRIU's logs of a capture, or with --restore of the restore",
		Long: "Show CRIU's logs of a capture, or with --restore those of the restore of the pod that claimed it. They are looked for on the node, then in the\n" +
			"bucket, and then in the status of the Checkpoint, which has the end of the log of a capture that failed.",
		Example: `  kubectl checkpoint logs web-5c9d-1f2e3d4c
  kubectl checkpoint logs web-5c9d-1f2e3d4c --restore | grep Error`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: c.checkpointNames(),
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
			logs := c.findLogs(command.Context(), k, found, restore)
			if !o.isForAPerson() {
				return o.value(c, logs)
			}
			return c.printLogs(logs)
		},
	}
	command.Flags().BoolVar(&restore, "restore", false, "those of the restore")
	o.addTo(command, asJSON, asYAML)
	return command
}

// findLogs looks where logs may be, in the order in which they are the most complete.
func (c *cli) findLogs(ctx context.Context, k client.Client, of *v1alpha1.Checkpoint, restore bool) *inspect.Logs {
	logs := &inspect.Logs{}
	look := func(where string, ask func() (*inspect.Logs, error)) {
		if hasCRIUs(logs) {
			return
		}
		more, err := ask()
		if err != nil {
			logs.Looked = append(logs.Looked, where+": "+err.Error())
			return
		}
		logs.Looked, logs.Found = append(logs.Looked, more.Looked...), append(logs.Found, more.Found...)
	}
	look("the node", func() (*inspect.Logs, error) { return c.logsOnNode(ctx, k, of, restore) })
	look("the bucket", func() (*inspect.Logs, error) {
		words, found := []string{"logs", of.Namespace, of.Name}, &inspect.Logs{}
		if restore {
			words = append(words, "restore")
		}
		return found, c.askManager(ctx, k, found, nil, words...)
	})
	if !restore {
		look("status.logTail", func() (*inspect.Logs, error) {
			if of.Status.LogTail == "" {
				return nil, errors.New("it is empty, as it is but for a capture that failed")
			}
			return &inspect.Logs{Found: []inspect.Log{{Name: "dump.log", Where: "status.logTail, its end alone", Text: of.Status.LogTail}}}, nil
		})
	}
	return logs
}

// hasCRIUs tells whether one of the logs is CRIU's: that of the runtime alone does not end the search.
func hasCRIUs(logs *inspect.Logs) bool {
	for _, l := range logs.Found {
		if strings.Contains(l.Name, "/") || l.Name == "dump.log" {
			return true
		}
	}
	return false
}

// logsOnNode asks the agent of the node of the capture, or of the restore.
func (c *cli) logsOnNode(ctx context.Context, k client.Client, of *v1alpha1.Checkpoint, restore bool) (*inspect.Logs, error) {
	source, claim := of.Status.Source, of.Status.Claim
	var node string
	var words []string
	switch {
	case restore && claim == nil:
		return nil, errors.New("no pod was restored from it (status.claim)")
	case restore:
		node, words = claim.Node, []string{"logs", "restore", of.Namespace, claim.PodName, string(claim.PodUID)}
	case source == nil:
		return nil, errors.New("it is not known on which node (status.source)")
	default:
		node, words = source.Node, []string{"logs", "capture", of.Namespace, of.Spec.SourcePodName, string(source.PodUID), of.StorageName()}
	}
	if err := c.mayEnter(ctx, k, agentPart); err != nil {
		return nil, err
	}
	pod, err := c.onePodOf(ctx, k, agentPart, node)
	if err != nil {
		return nil, err
	}
	found := &inspect.Logs{}
	return found, c.answer(ctx, pod, agentPart, found, nil, words...)
}

// printLogs prints them one behind the other, with where each is from.
func (c *cli) printLogs(logs *inspect.Logs) error {
	if len(logs.Found) == 0 {
		return fmt.Errorf("there are none. It was looked at:\n  %s", strings.Join(logs.Looked, "\n  "))
	}
	for i, l := range logs.Found {
		if i > 0 {
			fmt.Fprintln(c.Out)
		}
		fmt.Fprintf(c.Out, "==> %s (%s) <==\n%s", l.Name, l.Where, l.Text)
		if !strings.HasSuffix(l.Text, "\n") {
			fmt.Fprintln(c.Out)
		}
	}
	return nil
}
