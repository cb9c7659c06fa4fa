package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nIt did not work:", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	var name string
	root := &cobra.Command{Use: "demo", SilenceUsage: true, SilenceErrors: true}
	root.PersistentFlags().StringVar(&name, "name", "demo", "the cluster's name, as for bin/localcluster")
	root.AddCommand(&cobra.Command{
		Use: "run", Short: "Bring up a cluster with the operator, and show how a process survives the deletion of its pod", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return run(command.Context(), name) },
	}, &cobra.Command{
		Use: "install", Short: "Install the operator on a cluster that is up, or bring it up to date there", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			cluster, err := lab.Connect(command.Context(), name)
			if err != nil {
				return err
			}
			_, err = install.Install(command.Context(), cluster, newTeller().step)
			return err
		},
	})
	return root
}

// run is the whole demo.
func run(ctx context.Context, name string) error {
	told := newTeller()
	told.title("A cluster with the operator")
	if err := bringUp(ctx, name); err != nil {
		return err
	}
	cluster, err := lab.Connect(ctx, name)
	if err != nil {
		return err
	}
	operator, err := install.Install(ctx, cluster, told.step)
	if err != nil {
		return err
	}
	if err := told.step("build and load the Job's image, my-image:latest", func() error { return loadImage(ctx, name) }); err != nil {
		return err
	}
	s := newStory(cluster, operator, told)
	if err := s.tell(ctx); err != nil {
		return err
	}
	told.say("\nThe whole demo took %s. The cluster stays up:\n", told.sinceStart())
	told.say("  export KUBECONFIG=$(bin/localcluster --name %s kubeconfig)", name)
	told.say("  bin/localcluster --name %s kubectl -- logs -f job/%s", name, jobName)
	told.say("  bin/localcluster --name %s kubectl -- get checkpoints,restorepolicies -o wide", name)
	var which string
	if name != "demo" {
		which = " NAME=" + name
	}
	told.say("  make demo%s          # the same again, on this cluster", which)
	told.say("  make demo-down%s     # end the cluster and remove everything of it", which)
	return nil
}

// bringUp shows the progress of localcluster itself, as the first time takes minutes.
func bringUp(ctx context.Context, name string) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, filepath.Join(root, "bin/localcluster"), "--name="+name, "up")
	command.Stdout, command.Stderr = os.Stdout, os.Stdout
	return command.Run()
}

// loadImage builds the program that the Job runs and brings its image to the nodes.
func loadImage(ctx context.Context, name string) error {
	root, err := lab.Root()
	if err != nil {
		return err
	}
	binary := filepath.Join(root, "build/bin/counter")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./tests/images/counter")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build counter: %w: %s", err, output)
	}
	_, err = lab.Localcluster(ctx, name, "image", "build", image, "--binary="+binary)
	return err
}
