package main

import (
	"fmt"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	ctrl.SetLogger(logr.Discard()) // what a person has to know is said by the commands
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	root, _ := newRoot(streams)
	if err := root.ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(streams.ErrOut, "error:", err)
		os.Exit(1)
	}
}

// newRoot returns the command with all that it can, and what its commands share.
func newRoot(streams genericiooptions.IOStreams) (*cobra.Command, *cli) {
	c := &cli{flags: genericclioptions.NewConfigFlags(true), IOStreams: streams}
	root := &cobra.Command{
		Use:   "kubectl-checkpoint",
		Short: "See, make, keep and explain the checkpoints of pods",
		Long: "kubectl checkpoint shows what the Transparent Checkpoint Operator has captured of the pods with the label memverge.ai/checkpoint-mode, explains\n" +
			"what becomes of a pod that is deleted and why one started cold, and has pods captured and restored by hand.",
		Example: `  kubectl checkpoint why my-pod            # is it protected, and what would it be restored from?
  kubectl checkpoint list                  # what there is, by workload, the newest first
  kubectl checkpoint create my-pod --wait  # capture it now; it goes on
  kubectl checkpoint doctor                # is the operator well, on every node?`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl checkpoint"},
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	c.flags.AddFlags(root.PersistentFlags())
	root.PersistentFlags().StringVar(&c.operatorNamespace, "operator-namespace", "checkpoint-system", "the namespace of the operator's manager")
	root.PersistentFlags().StringVar(&c.agentNamespace, "agent-namespace", "checkpoint-agents", "the namespace of the operator's agents")
	root.AddGroup(
		&cobra.Group{ID: look, Title: "To see and to understand:"},
		&cobra.Group{ID: act, Title: "To capture, restore and keep:"},
		&cobra.Group{ID: operate, Title: "For those who run the operator:"},
	)
	inGroup := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
		}
		root.AddCommand(commands...)
	}
	inGroup(look, c.whyCommand(), c.listCommand(), c.describeCommand(), c.logsCommand())
	inGroup(act, c.createCommand(), c.restoreCommand(), c.restartCommand(), c.pinCommand(), c.unpinCommand(), c.deleteCommand())
	inGroup(operate, c.statusCommand(), c.locationCommand(), c.doctorCommand(), c.verifyCommand(), c.duCommand(), c.exportCommand(), c.bugCommand())
	return root, c
}

// The groups of commands in the help.
const (
	look    = "look"
	act     = "act"
	operate = "operate"
)
