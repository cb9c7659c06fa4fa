package install

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// readyPatience is how long pods of manager and agent may take to start.
const readyPatience = 2 * time.Minute

// AwaitReady waits until manager and agents run in their newest build, every node takes labelled pods, and the bucket can be used.
func (o *Operator) AwaitReady(ctx context.Context) error {
	for _, check := range []func(context.Context) error{o.managerReady, o.agentReady, o.nodesReady, o.locationReady} {
		err := eventually(ctx, lab.Patience(readyPatience), func() error { return check(ctx) })
		if err != nil {
			return fmt.Errorf("%w%s", err, o.whyNot(ctx))
		}
	}
	return nil
}

func (o *Operator) managerReady(ctx context.Context) error {
	d, err := o.Cluster.Client.AppsV1().Deployments(Namespace).Get(ctx, Manager, metav1.GetOptions{})
	if err != nil {
		return err
	}
	want, s := *d.Spec.Replicas, d.Status
	if s.ObservedGeneration < d.Generation || s.UpdatedReplicas < want || s.AvailableReplicas < want || s.Replicas > want {
		return fmt.Errorf("of %d managers %d are in the newest build and %d ready", want, s.UpdatedReplicas, s.AvailableReplicas)
	}
	return nil
}

func (o *Operator) agentReady(ctx context.Context) error {
	d, err := o.Cluster.Client.AppsV1().DaemonSets(AgentNamespace).Get(ctx, Agent, metav1.GetOptions{})
	if err != nil {
		return err
	}
	want, s := d.Status.DesiredNumberScheduled, d.Status
	if s.ObservedGeneration < d.Generation || want == 0 || s.UpdatedNumberScheduled < want || s.NumberAvailable < want {
		return fmt.Errorf("of %d agents %d are in the newest build and %d ready", want, s.UpdatedNumberScheduled, s.NumberAvailable)
	}
	return nil
}

// nodesReady waits for the label on the nodes; one that is down is none of ours.
func (o *Operator) nodesReady(ctx context.Context) error {
	list, err := o.Cluster.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var missing []string
	for _, node := range list.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue && node.Labels[keys.NodeReady] != keys.True {
				missing = append(missing, node.Name)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no label %s=%s on %s", keys.NodeReady, keys.True, strings.Join(missing, ", "))
	}
	return nil
}

func (o *Operator) locationReady(ctx context.Context) error {
	location, err := o.Checkpoints.CheckpointV1alpha1().CheckpointStorageLocations().Get(ctx, Location, metav1.GetOptions{})
	if err != nil {
		return err
	}
	available := meta.FindStatusCondition(location.Status.Conditions, v1alpha1.LocationAvailable)
	if available == nil || available.Status != metav1.ConditionTrue || available.ObservedGeneration != location.Generation {
		return fmt.Errorf("storage location %q cannot be used: %+v", Location, available)
	}
	return nil
}

// whyNot tells what the pods of the operator are up to, for whoever has to find out.
func (o *Operator) whyNot(ctx context.Context) string {
	var told strings.Builder
	for _, args := range [][]string{
		{"get", "pods", "-A", "-l", "app.kubernetes.io/name in (" + Manager + "," + Agent + ")", "-o", "wide"},
		{"get", "events", "-n", Namespace, "--field-selector=type=Warning"},
		{"get", "events", "-n", AgentNamespace, "--field-selector=type=Warning"},
		{"logs", "-n", AgentNamespace, "daemonset/" + Agent, "--tail=10"},
		{"logs", "-n", Namespace, "deployment/" + Manager, "--tail=10"},
	} {
		output, err := o.Kubectl(ctx, args...)
		if err != nil {
			output = err.Error()
		}
		fmt.Fprintf(&told, "\n\n$ kubectl %s\n%s", strings.Join(args, " "), strings.TrimSpace(output))
	}
	return told.String()
}

// eventually calls check until it returns nil, and returns its last error when it has not in that time.
func eventually(ctx context.Context, patience time.Duration, check func() error) error {
	began := time.Now()
	for {
		err := check()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Since(began) > patience {
			return fmt.Errorf("not after %s: %w", patience, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}
