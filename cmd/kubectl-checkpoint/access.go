package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/internal/report"
)

// cli is what all commands have: kubectl's flags, the streams, and how to get at the cluster.
type cli struct {
	flags             *genericclioptions.ConfigFlags
	operatorNamespace string
	agentNamespace    string
	genericiooptions.IOStreams

	// fake takes the place of a cluster in tests, now that of the clock, run that of execute, logs that of logsOf, and server that of what it serves.
	fake   client.Client
	now    func() time.Time
	run    func(ctx context.Context, pod *corev1.Pod, container string, words []string, out, errOut io.Writer) error
	logs   func(ctx context.Context, pod *corev1.Pod, container string, previous bool) ([]byte, error)
	server func() (version string, kinds []string, err error)
}

func (c *cli) time() time.Time {
	if c.now != nil {
		return c.now()
	}
	return time.Now()
}

// namespace is the one that the flags or the kubeconfig say.
func (c *cli) namespace() (string, error) {
	if c.fake != nil && *c.flags.Namespace == "" {
		return "default", nil
	}
	namespace, _, err := c.flags.ToRawKubeConfigLoader().Namespace()
	return namespace, err
}

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err) // two kinds of one name: a mistake in the program
		}
	}
	return s
}

// client speaks with the API server as the user.
func (c *cli) client() (client.Client, error) {
	if c.fake != nil {
		return c.fake, nil
	}
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 50, 100 // a person waits
	return client.New(config, client.Options{Scheme: newScheme()})
}

// explained says of an error of the API server what a person can do about it.
func explained(err error) error {
	switch {
	case err == nil:
		return nil
	case meta.IsNoMatchError(err):
		return errors.New("this cluster does not know the kinds of checkpoint.memverge.ai: the operator is not installed in it, or not in this version " +
			"(docs/getting-started.md)")
	case apierrors.IsForbidden(err):
		return fmt.Errorf("you have no right to: %w", err)
	}
	return err
}

// optional lists objects that not every user may read, as those of the whole cluster: without the right there are none, and what could not be read is noted.
func optional(ctx context.Context, k client.Client, list client.ObjectList, s *report.Snapshot, what string, options ...client.ListOption) error {
	err := k.List(ctx, list, options...)
	if apierrors.IsForbidden(err) {
		s.Unread = append(s.Unread, what)
		return nil
	}
	return err
}

// snapshot reads all of a namespace, or of all, that the reports are made of.
func (c *cli) snapshot(ctx context.Context, k client.Client, namespace string) (*report.Snapshot, error) {
	s := &report.Snapshot{Now: c.time()}
	in := client.InNamespace(namespace)
	checkpoints, restores, captures := &v1alpha1.CheckpointList{}, &v1alpha1.RestorePolicyList{}, &v1alpha1.CheckpointPolicyList{}
	for _, list := range []client.ObjectList{checkpoints, restores, captures} {
		if err := k.List(ctx, list, in); err != nil {
			return nil, explained(err)
		}
	}
	s.Checkpoints, s.RestorePolicies, s.CheckpointPolicies = checkpoints.Items, restores.Items, captures.Items
	pods, sets, locations, nodes := &corev1.PodList{}, &appsv1.ReplicaSetList{}, &v1alpha1.CheckpointStorageLocationList{}, &corev1.NodeList{}
	err := errors.Join(
		optional(ctx, k, pods, s, "pods", in), optional(ctx, k, sets, s, "ReplicaSets", in),
		optional(ctx, k, locations, s, "CheckpointStorageLocations"), optional(ctx, k, nodes, s, "nodes"),
	)
	if err != nil {
		return nil, explained(err)
	}
	s.Pods, s.ReplicaSets, s.Locations, s.Nodes = pods.Items, sets.Items, locations.Items, nodes.Items
	return s, c.readOperator(ctx, k, s, namespace)
}

// readOperator adds what the operator is told as a whole.
func (c *cli) readOperator(ctx context.Context, k client.Client, s *report.Snapshot, namespace string) error {
	told := &corev1.ConfigMap{}
	err := k.Get(ctx, client.ObjectKey{Namespace: c.operatorNamespace, Name: operator.ConfigMap}, told)
	switch {
	case apierrors.IsForbidden(err):
		s.Unread = append(s.Unread, "ConfigMap "+operator.ConfigMap)
	case client.IgnoreNotFound(err) != nil:
		return err
	}
	s.Config, s.ConfigError = operator.Parse(told.Data, nil)
	if namespace == "" {
		return nil
	}
	s.Namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	err = k.Get(ctx, client.ObjectKey{Name: namespace}, s.Namespace)
	if apierrors.IsForbidden(err) {
		s.Unread = append(s.Unread, "namespace "+namespace)
		return nil
	}
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no namespace %q", namespace)
	}
	return err
}

// pod reads a pod of which a person gave the name, as NAME or pod/NAME.
func (c *cli) pod(ctx context.Context, k client.Client, namespace, name string) (*corev1.Pod, error) {
	if kind, rest, found := strings.Cut(name, "/"); found {
		if !slices.Contains([]string{"pod", "pods", "po"}, kind) {
			return nil, fmt.Errorf("%q is no pod; it may be NAME or pod/NAME", name)
		}
		name = rest
	}
	pod := &corev1.Pod{}
	err := k.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, pod)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no pod %q in namespace %q; `kubectl checkpoint list` shows what pods that are gone have left", name, namespace)
	}
	return pod, explained(err)
}

// checkpoint reads a Checkpoint of which a person gave the name, as NAME or checkpoint/NAME.
func (c *cli) checkpoint(ctx context.Context, k client.Client, namespace, name string) (*v1alpha1.Checkpoint, error) {
	if kind, rest, found := strings.Cut(name, "/"); found {
		if kind, _, _ = strings.Cut(kind, "."); !slices.Contains([]string{"checkpoint", "checkpoints", "ckpt"}, kind) {
			return nil, fmt.Errorf("%q is no Checkpoint; it may be NAME or checkpoint/NAME", name)
		}
		name = rest
	}
	found := &v1alpha1.Checkpoint{}
	err := k.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, found)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no Checkpoint %q in namespace %q; `kubectl checkpoint list` shows those that there are", name, namespace)
	}
	return found, explained(err)
}

// begin is what most commands begin with: the client and the namespace.
func (c *cli) begin() (client.Client, string, error) {
	k, err := c.client()
	if err != nil {
		return nil, "", err
	}
	namespace, err := c.namespace()
	return k, namespace, err
}

// names completes the names of objects of a kind in the namespace.
func (c *cli) names(list func() client.ObjectList) cobra.CompletionFunc {
	return func(command *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		k, namespace, err := c.begin()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		all, found := list(), []cobra.Completion(nil)
		if err := k.List(command.Context(), all, client.InNamespace(namespace)); err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		_ = meta.EachListItem(all, func(o runtime.Object) error { // the function gives no error
			if object, isObject := o.(client.Object); isObject && strings.HasPrefix(object.GetName(), typed) {
				found = append(found, object.GetName())
			}
			return nil
		})
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func (c *cli) podNames() cobra.CompletionFunc {
	return c.names(func() client.ObjectList { return &corev1.PodList{} })
}

func (c *cli) checkpointNames() cobra.CompletionFunc {
	return c.names(func() client.ObjectList { return &v1alpha1.CheckpointList{} })
}
