package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/matching"
	"github.com/transparent-checkpoint/operator/internal/podspec"
	"github.com/transparent-checkpoint/operator/internal/report"
)

// What restore and restart have in common: for as long as they take, a RestorePolicy says what becomes of the pod that takes the place of another, and that one
// is deleted. It is captured at its end, so that nothing is lost by a mistake.

// ofThisCommand is a label of those RestorePolicies.
const ofThisCommand = "checkpoint.memverge.ai/kubectl"

// again has the successor of a pod begin in another way.
type again struct {
	c       *cli
	k       client.Client
	pod     *corev1.Pod
	policy  *v1alpha1.RestorePolicy
	timeout time.Duration
	// accept tells whether the successor has begun as it was wanted, or cannot any more.
	accept func(*corev1.PodCondition) (bool, error)
}

// policyFor returns a RestorePolicy for the successor of a pod. Labels that tell revisions apart are left out.
func policyFor(pod *corev1.Pod, verb string) (*v1alpha1.RestorePolicy, error) {
	selector := map[string]string{}
	for key, value := range pod.Labels {
		switch key {
		case "pod-template-hash", "controller-revision-hash", "pod-template-generation":
		default:
			selector[key] = value
		}
	}
	if metav1.GetControllerOf(pod) == nil {
		return nil, fmt.Errorf("pod %s has no controller that would make it anew: delete it and make it yourself, with memverge.ai/restore-from or -mode", pod.Name)
	}
	if len(selector) == 0 {
		return nil, fmt.Errorf("pod %s has no labels by which a RestorePolicy could tell it from others", pod.Name)
	}
	return &v1alpha1.RestorePolicy{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: v1alpha1.LiveName(pod.Name, pod.UID, verb), Labels: map[string]string{ofThisCommand: verb},
		},
		Spec: v1alpha1.RestorePolicySpec{
			Selector: &metav1.LabelSelector{MatchLabels: selector}, Mode: v1alpha1.RestoreEnabled, Source: v1alpha1.RestoreLatest,
			TemplateChanges: v1alpha1.TemplateChangesColdStart, VolumeChanges: v1alpha1.VolumeChangesColdStart, Fallback: v1alpha1.FallbackColdStart,
		},
	}, nil
}

// refusesOthers says of a policy that a person wrote before that it would decide instead.
func refusesOthers(s *report.Snapshot, pod *corev1.Pod) error {
	if other := matching.PolicyOf(pod, s.RestorePolicies); other != nil && other.Spec.Selector != nil {
		return fmt.Errorf("RestorePolicy %s decides for pod %s, as it was there before: change or delete that one", other.Name, pod.Name)
	}
	return nil
}

// run does it, and takes the policy away whatever comes.
func (a *again) run(ctx context.Context) (successor *corev1.Pod, err error) {
	if err := a.k.Create(ctx, a.policy); err != nil {
		return nil, explained(err)
	}
	defer func() {
		gone := a.k.Delete(context.WithoutCancel(ctx), a.policy)
		if client.IgnoreNotFound(gone) != nil {
			err = errors.Join(err, fmt.Errorf("RestorePolicy %s is still there, delete it: %w", a.policy.Name, gone))
		}
	}()
	began := time.Now()
	if err := a.k.Delete(ctx, a.pod, client.Preconditions{UID: &a.pod.UID}); err != nil {
		return nil, explained(err)
	}
	fmt.Fprintf(a.c.ErrOut, "pod/%s is deleted, and captured at its end\n", a.pod.Name)
	said := ""
	for {
		successor, says, err := a.look(ctx, began)
		if err != nil || successor != nil && says == "" {
			return successor, err
		}
		if says != said {
			fmt.Fprintln(a.c.ErrOut, says)
			said = says
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(glance):
		}
		if time.Since(began) > a.timeout {
			return nil, fmt.Errorf("after %s: %s", a.timeout, said)
		}
	}
}

// look looks for the successor. says is empty when it has begun as it was wanted.
func (a *again) look(ctx context.Context, began time.Time) (successor *corev1.Pod, says string, err error) {
	pods := &corev1.PodList{}
	if err := a.k.List(ctx, pods, client.InNamespace(a.pod.Namespace)); err != nil {
		return nil, "", explained(err)
	}
	own := lineage.Of(a.pod)
	for i := range pods.Items {
		p := &pods.Items[i]
		its := lineage.Of(p)
		if p.UID == a.pod.UID || !podspec.Asks(p) || its.Owner == nil || its.Owner.UID != own.Owner.UID || its.Identity != own.Identity ||
			p.CreationTimestamp.Time.Before(began.Add(-2*time.Second)) { // clocks differ
			continue
		}
		condition := podspec.Condition(p, keys.Restored)
		if condition == nil {
			return p, fmt.Sprintf("pod/%s takes its place, and has not begun yet", p.Name), nil
		}
		accepted, err := a.accept(condition)
		if err != nil {
			return p, "", fmt.Errorf("pod %s: %s: %s: %w", p.Name, condition.Reason, condition.Message, err)
		}
		if accepted {
			return p, "", nil
		}
	}
	return nil, "no pod takes its place yet", nil
}

func (c *cli) restoreCommand() *cobra.Command {
	o, from, dryRun, changes, timeout := &output{}, "", false, false, 10*time.Minute
	command := &cobra.Command{
		Use:   "restore POD --from CHECKPOINT",
		Short: "Have the pod that takes the place of another go on from a Checkpoint of your choice",
		Long: "Have the pod that takes the place of another go on from a Checkpoint of its workload, instead of what the pod leaves now. The pod is\n" +
			"deleted, and captured at its end. Meanwhile a RestorePolicy of this command holds for pods with its labels. With --dry-run nothing is done but to\n" +
			"say what fits and what does not.",
		Example: `  kubectl checkpoint restore db-0 --from db-0-before --dry-run
  kubectl checkpoint restore db-0 --from db-0-before`,
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
			checkpoint, err := c.checkpoint(ctx, k, namespace, from)
			if err != nil {
				return err
			}
			policy, err := policyFor(pod, "restore")
			if err != nil {
				return err
			}
			policy.Spec.Source, policy.Spec.CheckpointName = v1alpha1.RestoreNamed, checkpoint.Name
			age := c.time().Sub(checkpoint.CreationTimestamp.Time).Truncate(time.Hour) // the API takes no fractions of seconds
			policy.Spec.MaxAge = &metav1.Duration{Duration: age + 25*time.Hour}        // who names it knows how old it is
			if changes {
				policy.Spec.TemplateChanges = v1alpha1.TemplateChangesRestore
			}
			s, err := c.snapshot(ctx, k, namespace)
			if err != nil {
				return err
			}
			fit := report.FitOf(s, pod, checkpoint, policy)
			if err := c.printFit(o, fit); err != nil || dryRun {
				return err
			}
			if err := refusesOthers(s, pod); err != nil {
				return err
			}
			if !fit.Fits {
				return fmt.Errorf("pod %s is left as it is: a pod in its place could not go on from Checkpoint %s", pod.Name, checkpoint.Name)
			}
			a := &again{c: c, k: k, pod: pod, policy: policy, timeout: timeout, accept: func(restored *corev1.PodCondition) (bool, error) {
				if restored.Status != corev1.ConditionTrue && restored.Reason != keys.ColdIncomplete {
					return false, errors.New("it was not restored; what the pod before it left is still there")
				}
				return restored.Status == corev1.ConditionTrue, nil
			}}
			successor, err := a.run(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "pod/%s restored from checkpoint/%s\n", successor.Name, checkpoint.Name)
			return nil
		},
	}
	command.Flags().StringVar(&from, "from", "", "the Checkpoint")
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only say what fits and what does not")
	command.Flags().BoolVar(&changes, "template-changes", false, "also from a Checkpoint of another revision of the pod's template")
	command.Flags().DurationVar(&timeout, "timeout", timeout, "for how long at most")
	_ = command.MarkFlagRequired("from") // it is there
	_ = command.RegisterFlagCompletionFunc("from", c.checkpointNames())
	o.addTo(command, asJSON, asYAML)
	return command
}

func (c *cli) printFit(o *output, fit report.Fit) error {
	if !o.isForAPerson() {
		return o.value(c, fit)
	}
	return fit.Write(c.Out)
}

func (c *cli) restartCommand() *cobra.Command {
	keep, timeout := false, 10*time.Minute
	command := &cobra.Command{
		Use:   "restart POD",
		Short: "Have the pod that takes the place of another begin from scratch",
		Long: "Delete a pod, and have the one that takes its place begin from scratch instead of going on. What the pod leaves is deleted when the new\n" +
			"one has begun; with --keep it is pinned instead. Meanwhile a RestorePolicy of this command holds for pods with its labels.",
		Args: cobra.ExactArgs(1), ValidArgsFunction: c.podNames(),
		RunE: func(command *cobra.Command, args []string) error {
			ctx := command.Context()
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			pod, err := c.pod(ctx, k, namespace, args[0])
			if err != nil {
				return err
			}
			policy, err := policyFor(pod, "restart")
			if err != nil {
				return err
			}
			policy.Spec.Mode = v1alpha1.RestoreDisabled
			s, err := c.snapshot(ctx, k, namespace)
			if err != nil {
				return err
			}
			if err := refusesOthers(s, pod); err != nil {
				return err
			}
			a := &again{c: c, k: k, pod: pod, policy: policy, timeout: timeout, accept: func(restored *corev1.PodCondition) (bool, error) {
				if restored.Status == corev1.ConditionTrue {
					return false, errors.New("it was restored all the same")
				}
				return true, nil
			}}
			successor, err := a.run(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "pod/%s began from scratch\n", successor.Name)
			return c.dispose(ctx, k, pod, keep)
		},
	}
	command.Flags().BoolVar(&keep, "keep", false, "pin what the pod leaves instead of deleting it")
	command.Flags().DurationVar(&timeout, "timeout", timeout, "for how long at most")
	return command
}

// dispose does away with what a pod left that began anew, or keeps it.
func (c *cli) dispose(ctx context.Context, k client.Client, pod *corev1.Pod, keep bool) error {
	left := &v1alpha1.Checkpoint{}
	err := k.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: v1alpha1.TerminationName(pod.Name, pod.UID)}, left)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return explained(err)
	case keep:
		return explained(c.setPin(true)(ctx, k, left))
	}
	if err := client.IgnoreNotFound(k.Delete(ctx, left)); err != nil {
		return explained(err)
	}
	fmt.Fprintf(c.Out, "checkpoint/%s deleted\n", left.Name)
	return nil
}
