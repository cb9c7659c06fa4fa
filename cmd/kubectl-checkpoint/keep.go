package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// forEach does something with each Checkpoint that is named, and goes on after one that failed.
func (c *cli) forEach(do func(ctx context.Context, k client.Client, found *v1alpha1.Checkpoint) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		k, namespace, err := c.begin()
		if err != nil {
			return err
		}
		var failed []error
		for _, name := range args {
			found, err := c.checkpoint(command.Context(), k, namespace, name)
			if err == nil {
				err = explained(do(command.Context(), k, found))
			}
			failed = append(failed, err)
		}
		return errors.Join(failed...)
	}
}

// setPin gives a Checkpoint the label of those that no rule ends, or takes it away.
func (c *cli) setPin(pin bool) func(ctx context.Context, k client.Client, found *v1alpha1.Checkpoint) error {
	return func(ctx context.Context, k client.Client, found *v1alpha1.Checkpoint) error {
		before := found.DeepCopy()
		if pin {
			if found.Labels == nil {
				found.Labels = map[string]string{}
			}
			found.Labels[keys.CheckpointPin] = keys.True
		} else {
			delete(found.Labels, keys.CheckpointPin)
		}
		if err := k.Patch(ctx, found, client.MergeFrom(before)); err != nil {
			return err
		}
		fmt.Fprintf(c.Out, "checkpoint/%s %s\n", found.Name, map[bool]string{true: "pinned", false: "unpinned"}[pin])
		return nil
	}
}

func (c *cli) pinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pin CHECKPOINT…",
		Short: "Keep Checkpoints: no rule of retention ends them, and they stay when their owner is deleted",
		Args:  cobra.MinimumNArgs(1), ValidArgsFunction: c.checkpointNames(), RunE: c.forEach(c.setPin(true)),
	}
}

func (c *cli) unpinCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unpin CHECKPOINT…",
		Short: "Have the rules of retention hold for Checkpoints again",
		Args:  cobra.MinimumNArgs(1), ValidArgsFunction: c.checkpointNames(), RunE: c.forEach(c.setPin(false)),
	}
}

func (c *cli) deleteCommand() *cobra.Command {
	force := false
	command := &cobra.Command{
		Use:   "delete CHECKPOINT…",
		Short: "Delete Checkpoints with their data",
		Long: "Delete Checkpoints with their data in the bucket. One that is pinned, or that a pod is being restored from at this moment, is\n" +
			"deleted only with --force; the pod would start cold then.",
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: c.checkpointNames(),
		RunE: c.forEach(func(ctx context.Context, k client.Client, found *v1alpha1.Checkpoint) error {
			claim := found.Status.Claim
			switch {
			case force:
			case found.Labels[keys.CheckpointPin] == keys.True:
				return fmt.Errorf("checkpoint %s is pinned: unpin it first, or say --force", found.Name)
			case claim != nil && claim.Phase == v1alpha1.ClaimClaimed:
				return fmt.Errorf("pod %s is being restored from Checkpoint %s: wait for that, or say --force", claim.PodName, found.Name)
			}
			if err := k.Delete(ctx, found, client.Preconditions{UID: &found.UID}); err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "checkpoint/%s deleted\n", found.Name)
			return nil
		}),
	}
	command.Flags().BoolVar(&force, "force", false, "also those that are pinned or being restored from")
	return command
}
