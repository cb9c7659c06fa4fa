package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/internal/report"
	"github.com/transparent-checkpoint/operator/internal/version"
)

// How many pods are asked at once, and how long one may take: CRIU checks the kernel meanwhile.
const (
	askedAtOnce = 16
	askTime     = 2 * time.Minute
)

// errUnwell has the command end with an error, for who calls it in a script.
var errUnwell = errors.New("something does not work, see FAIL above")

func (c *cli) doctorCommand() *cobra.Command {
	o, nodes := &output{}, []string(nil)
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether the operator is well, in the cluster and on every node, and say how to mend what is not",
		Long: "Look whether the operator is well: what the API server serves, manager, agents, admission (a labelled pod is made on trial, of which nothing\n" +
			"is left), buckets, rights, versions; and on every node the handler, CRIU and what it says of the kernel, kubelet's configuration, the disk, the clock.\n" +
			"FAIL is what keeps pods from being captured or restored, WARN what a person should know. It ends with an error if anything is FAIL.",
		Example: `  kubectl checkpoint doctor
  kubectl checkpoint doctor --node worker-1 -o wide`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			k, namespace, err := c.begin()
			if err != nil {
				return err
			}
			h, err := c.health(command.Context(), k, namespace, nodes)
			if err != nil {
				return err
			}
			d := h.Diagnose()
			if o.isForAPerson() {
				err = d.Write(c.Out, o.format == wide)
			} else {
				err = o.value(c, d)
			}
			if err == nil && d.Level == inspect.Fail {
				err = errUnwell
			}
			return err
		},
	}
	command.Flags().StringSliceVar(&nodes, "node", nil, "look at this node alone, or at several: --node a,b")
	_ = command.RegisterFlagCompletionFunc("node", c.names(func() client.ObjectList { return &corev1.NodeList{} })) // the flag is there
	o.addTo(command, wide, asJSON, asYAML)
	return command
}

// health gathers all that a diagnosis is made of.
func (c *cli) health(ctx context.Context, k client.Client, namespace string, nodes []string) (*report.Health, error) {
	h := &report.Health{
		Namespace: c.operatorNamespace, AgentNamespace: c.agentNamespace, TrialNamespace: namespace, Version: version.Version, OnlyNodes: nodes,
		Asked: map[string]report.Asked{}, Now: c.time(),
	}
	var err error
	if h.Server, h.Kinds, err = c.served(); err != nil {
		return nil, err
	}
	if err := c.readInstallation(ctx, k, h); err != nil {
		return nil, explained(err)
	}
	for _, name := range nodes {
		if !slices.ContainsFunc(h.Nodes, func(n corev1.Node) bool { return n.Name == name }) {
			return nil, fmt.Errorf("there is no node %q", name)
		}
	}
	h.Trial, h.TrialError = tryPod(ctx, k, namespace)
	if err := c.readRights(ctx, k, h, namespace); err != nil {
		return nil, err
	}
	return h, c.askAll(ctx, k, h)
}

// served is the version of the API server, and the kinds that it serves of ours.
func (c *cli) served() (string, []string, error) {
	if c.server != nil {
		return c.server()
	}
	discovery, err := c.flags.ToDiscoveryClient()
	if err != nil {
		return "", nil, err
	}
	discovery.Invalidate() // what kubectl remembers may be older than the operator
	info, err := discovery.ServerVersion()
	if err != nil {
		return "", nil, err
	}
	list, err := discovery.ServerResourcesForGroupVersion(v1alpha1.SchemeGroupVersion.String())
	if apierrors.IsNotFound(err) {
		return info.GitVersion, nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	var kinds []string
	for _, r := range list.APIResources {
		if !slices.Contains(kinds, r.Kind) {
			kinds = append(kinds, r.Kind)
		}
	}
	slices.Sort(kinds)
	return info.GitVersion, kinds, nil
}

// readInstallation reads the objects of the operator, as far as the user may.
func (c *cli) readInstallation(ctx context.Context, k client.Client, h *report.Health) error {
	manager, agent, lease, class := &appsv1.Deployment{}, &appsv1.DaemonSet{}, &coordinationv1.Lease{}, &nodev1.RuntimeClass{}
	for _, one := range []struct {
		object          client.Object
		namespace, name string
		what            string
		found           func()
	}{
		{manager, c.operatorNamespace, managerPart.name, "deployments", func() { h.Manager = manager }},
		{lease, c.operatorNamespace, managerPart.name, "leases", func() { h.Lease = lease }},
		{agent, c.agentNamespace, agentPart.name, "daemonsets", func() { h.Agent = agent }},
		{class, "", keys.RuntimeClass, "runtimeclasses", func() { h.Class = class }},
	} {
		err := k.Get(ctx, client.ObjectKey{Namespace: one.namespace, Name: one.name}, one.object)
		switch {
		case err == nil:
			one.found()
		case apierrors.IsForbidden(err):
			h.Unread = append(h.Unread, one.what)
		case !apierrors.IsNotFound(err):
			return err
		}
	}
	s := &report.Snapshot{}
	nodes, locations, managers, agents := &corev1.NodeList{}, &v1alpha1.CheckpointStorageLocationList{}, &corev1.PodList{}, &corev1.PodList{}
	of := func(p part) []client.ListOption {
		return []client.ListOption{client.InNamespace(c.namespaceOf(p)), client.MatchingLabels{"app.kubernetes.io/name": p.name}}
	}
	err := errors.Join(optional(ctx, k, nodes, s, "nodes"), optional(ctx, k, managers, s, "managers", of(managerPart)...),
		optional(ctx, k, agents, s, "agents", of(agentPart)...))
	if len(h.Kinds) > 0 {
		err = errors.Join(err, optional(ctx, k, locations, s, "CheckpointStorageLocations"))
	}
	h.Nodes, h.Locations, h.Managers, h.Agents = nodes.Items, locations.Items, managers.Items, agents.Items
	if err = errors.Join(err, c.readOperator(ctx, k, s, "")); err != nil {
		return err
	}
	h.Config, h.ConfigError = s.Config, s.ConfigError
	h.Unread = append(h.Unread, s.Unread...)
	return nil
}

// tryPod has the API server make a labelled pod, without keeping it, and returns what came of it. Its container may do nothing, so that every namespace takes
// it.
func tryPod(ctx context.Context, k client.Client, namespace string) (*corev1.Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "checkpoint-doctor-", Labels: map[string]string{keys.CheckpointMode: keys.True}},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65534)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "app", Image: "localhost/never-started",
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
	return pod, k.Create(ctx, pod, client.DryRunAll)
}

// readRights asks for the rights that the commands need.
func (c *cli) readRights(ctx context.Context, k client.Client, h *report.Health, namespace string) error {
	group := v1alpha1.SchemeGroupVersion.Group
	for _, one := range []struct {
		attributes authorizationv1.ResourceAttributes
		text       string
	}{
		{authorizationv1.ResourceAttributes{Verb: "list", Group: group, Resource: "checkpoints"}, "list checkpoints of all namespaces (list -A, status)"},
		{authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "list", Group: group, Resource: "checkpoints"},
			"list checkpoints in namespace " + namespace + " (list, why)"},
		{authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "create", Group: group, Resource: "checkpoints"},
			"create checkpoints in namespace " + namespace + " (create)"},
		{authorizationv1.ResourceAttributes{Verb: "list", Resource: "nodes"}, "list nodes (status, doctor)"},
		{authorizationv1.ResourceAttributes{Namespace: c.operatorNamespace, Verb: "create", Resource: "pods", Subresource: "exec"},
			"create pods/exec in namespace " + c.operatorNamespace + " (verify, du, export, logs, and doctor's look at the manager)"},
		{authorizationv1.ResourceAttributes{Namespace: c.agentNamespace, Verb: "create", Resource: "pods", Subresource: "exec"},
			"create pods/exec in namespace " + c.agentNamespace + " (logs, and doctor's look at the nodes)"},
	} {
		allowed, err := may(ctx, k, one.attributes)
		if err != nil {
			return err
		}
		if !allowed {
			h.Lacks = append(h.Lacks, one.text)
		}
	}
	if slices.Contains(h.Unread, "ConfigMap "+operator.ConfigMap) {
		h.Lacks = append(h.Lacks, "get the ConfigMap "+operator.ConfigMap+" in namespace "+c.operatorNamespace+" (why)")
	}
	return nil
}

// askAll asks all managers, and the agents of the nodes that are looked at, as far as the user may.
func (c *cli) askAll(ctx context.Context, k client.Client, h *report.Health) error {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askedAtOnce)
	for p, pods := range map[part][]corev1.Pod{managerPart: h.Managers, agentPart: h.Agents} {
		if c.mayEnter(ctx, k, p) != nil { // which readRights has said
			continue
		}
		for i := range pods {
			pod := &pods[i]
			if p == agentPart && len(h.OnlyNodes) > 0 && !slices.Contains(h.OnlyNodes, pod.Spec.NodeName) {
				continue
			}
			group.Go(func() error {
				asked := c.askOne(ctx, p, pod)
				mu.Lock()
				defer mu.Unlock()
				h.Asked[pod.Name] = asked
				return ctx.Err()
			})
		}
	}
	return group.Wait()
}

func (c *cli) askOne(ctx context.Context, p part, pod *corev1.Pod) (asked report.Asked) {
	if !isReady(pod) {
		asked.Err = errors.New("the pod is not ready")
		return asked
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	asked.Err = c.answer(ctx, pod, p, &asked.Answer, nil, "doctor")
	return asked
}
