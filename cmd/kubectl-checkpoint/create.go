package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

func (c *cli) createCommand() *cobra.Command {
	o, name, stop, wait, timeout := &output{}, "", false, false, 30*time.Minute
	command := &cobra.Command{
		Use:   "create POD",
		Short: "Capture a pod at once; it goes on, or with --stop is evicted afterwards",
		Long: "Capture a pod at once. It stands still while its memory is written to the disk of its node, and goes on.\n" +
			"With --stop it is evicted afterwards, as by kubectl drain, and captured once more at its end, so that nothing is lost.",
		Example: `  kubectl checkpoint create my-pod --wait
  kubectl checkpoint create my-pod --stop
  kubectl checkpoint create my-pod --name before-the-migration --wait && kubectl checkpoint pin before-the-migration`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: c.podNames(),
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			ctx := command.Context()
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			pod, err := c.pod(ctx, k, namespace, args[0])
			if err != nil {
				return err
			}
			if err := mayBeCaptured(pod); err != nil {
				return err
			}
			if name == "" { // of its own for each call
				name = v1alpha1.LiveName(pod.Name, pod.UID, "m"+strconv.FormatInt(c.time().UnixMilli(), 36))
			} else if !v1alpha1.IsName(name) {
				return fmt.Errorf("--name is %q; it may be lower-case letters, digits, hyphens and dots, %d at most", name, v1alpha1.MaxNameLength)
			}
			wanted := &v1alpha1.Checkpoint{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
				Spec:       v1alpha1.CheckpointSpec{SourcePodName: pod.Name, SourcePodUID: pod.UID, Trigger: v1alpha1.TriggerManual},
			}
			if stop {
				wanted.Spec.PostCheckpoint = v1alpha1.PostCheckpointStop
			}
			if err := k.Create(ctx, wanted); err != nil {
				return explained(err)
			}
			if !o.isForAPerson() {
				if err := o.object(c, wanted); err != nil {
					return err
				}
			} else {
				fmt.Fprintf(c.Out, "checkpoint/%s created\n", name)
			}
			if !wait {
				return nil
			}
			return c.follow(ctx, k, wanted, timeout)
		},
	}
	command.Flags().StringVar(&name, "name", "", "the name of the Checkpoint; without it one is made of the pod's")
	command.Flags().BoolVar(&stop, "stop", false, "evict the pod afterwards")
	command.Flags().BoolVar(&wait, "wait", false, "show how far it comes, and end when its state is stored; with an error if it is not")
	command.Flags().DurationVar(&timeout, "timeout", timeout, "with --wait, for how long at most")
	o.addTo(command, asJSON, asYAML, justName)
	return command
}

// mayBeCaptured says early what the operator would say of a pod that cannot be captured.
func mayBeCaptured(pod *corev1.Pod) error {
	if !podspec.Asks(pod) {
		return fmt.Errorf("pod %s does not have the label %s: \"true\", with which it must have been made", pod.Name, keys.CheckpointMode)
	}
	if podspec.HasEnded(pod) || !pod.DeletionTimestamp.IsZero() {
		return fmt.Errorf("pod %s has ended, or is being deleted: what it left is in `kubectl checkpoint list pod/%s`", pod.Name, pod.Name)
	}
	if found := podspec.Condition(pod, keys.Checkpointable); found != nil && found.Status == corev1.ConditionFalse {
		return fmt.Errorf("pod %s cannot be captured: %s: %s", pod.Name, found.Reason, found.Message)
	}
	return nil
}
