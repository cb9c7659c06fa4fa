package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/operator"
)

// Health is what is known of an installation at one moment. What is nil is not there, or could not be read: Unread has the latter.
type Health struct {
	// Namespace and AgentNamespace are those of the manager and of the agents.
	Namespace, AgentNamespace string
	// Server is the version of the API server, as v1.37.2, and Kinds are those that it serves of our group and version.
	Server string
	Kinds  []string
	// Version is that of the program that asks.
	Version string

	Manager   *appsv1.Deployment
	Managers  []corev1.Pod
	Lease     *coordinationv1.Lease
	Agent     *appsv1.DaemonSet
	Agents    []corev1.Pod
	Nodes     []corev1.Node
	Class     *nodev1.RuntimeClass
	Locations []v1alpha1.CheckpointStorageLocation

	// Config is what is said for the whole operator, and ConfigError what of it cannot be understood.
	Config      operator.Config
	ConfigError error
	// Trial is a labelled pod as admission made it, in TrialNamespace, and TrialError why that could not be tried.
	Trial          *corev1.Pod
	TrialError     error
	TrialNamespace string
	// Lacks are the rights that the user does not have, with what cannot be done without each.
	Lacks []string
	// Asked are what managers and agents have answered, by the names of their pods.
	Asked map[string]Asked
	// OnlyNodes are the nodes that are looked at; none is all.
	OnlyNodes []string

	Unread []string
	Now    time.Time
}

// Asked is what a pod has answered, or why it has not.
type Asked struct {
	Answer inspect.Answer
	Err    error
}

// The titles of sections.
const (
	clusterTitle = "cluster"
	managerTitle = "manager "
	nodeTitle    = "node "
)

// Headings that say what to do.
const (
	mendInstall  = "docs/installation.md"
	mendUpgrade  = "docs/installation.md#upgrade"
	mendLocation = "docs/operations.md#when-a-location-does-not-work"
	mendConfig   = "docs/operations.md#what-is-said-for-the-whole-operator"
	mendPause    = "docs/operations.md#pausing-for-an-incident"
)

// Diagnose says how it stands with all of it.
func (h *Health) Diagnose() *Diagnosis {
	d := &Diagnosis{Level: inspect.OK}
	add := func(title string, checks []inspect.Check) {
		if len(checks) > 0 {
			d.Sections = append(d.Sections, Section{title, checks})
		}
	}
	add(clusterTitle, slices.Concat(h.checkServer(), h.checkManager(), h.checkAgents(), h.checkClass(), h.checkAdmission(), h.checkConfig(),
		h.checkLocations(), h.checkVersions(), h.checkUser()))
	for _, pod := range h.Managers {
		add(managerTitle+pod.Name, h.answered(pod.Name, "manager", h.Namespace))
	}
	for i := range h.Nodes {
		if node := &h.Nodes[i]; len(h.OnlyNodes) == 0 || slices.Contains(h.OnlyNodes, node.Name) {
			add(nodeTitle+node.Name, h.checkNode(node))
		}
	}
	var all []inspect.Check
	for _, s := range d.Sections {
		all = append(all, s.Checks...)
	}
	d.Level = inspect.Worst(all)
	return d
}

// oldest is the first version of Kubernetes that serves what the manifests have.
var oldest = version.MajorMinor(1, 33)

func (h *Health) checkServer() []inspect.Check {
	checks := []inspect.Check{ok("Kubernetes", "%s", h.Server)}
	switch server, err := version.ParseGeneric(h.Server); {
	case err != nil:
		checks[0] = warn("Kubernetes", "", "its version is %q", h.Server)
	case server.LessThan(oldest):
		checks[0] = fail("Kubernetes", "upgrade the cluster, docs/installation.md#what-it-needs",
			"%s is older than %s: our admission policies need that", h.Server, oldest)
	}
	var missing []string
	for _, kind := range []string{"Checkpoint", "CheckpointPolicy", "CheckpointStorageLocation", "RestorePolicy"} {
		if !slices.Contains(h.Kinds, kind) {
			missing = append(missing, kind)
		}
	}
	if len(missing) > 0 {
		return append(checks, fail("kinds", mendInstall, "the API server does not serve %s of %s", strings.Join(missing, ", "), v1alpha1.SchemeGroupVersion))
	}
	return append(checks, ok("kinds", "%s of %s", strings.Join(h.Kinds, ", "), v1alpha1.SchemeGroupVersion))
}

// leaseTime is for how long a lease counts that is not renewed, where it does not say.
const leaseTime = 15 * time.Second

func (h *Health) checkManager() []inspect.Check {
	log := fmt.Sprintf("kubectl get pods -n %[1]s -l app.kubernetes.io/name=checkpoint-manager; kubectl logs -n %[1]s deployment/checkpoint-manager", h.Namespace)
	var checks []inspect.Check
	switch m := h.Manager; {
	case m == nil && h.couldRead("deployments"):
		return []inspect.Check{fail("manager", mendInstall+", or name its namespace with --operator-namespace",
			"there is no Deployment checkpoint-manager in namespace %s", h.Namespace)}
	case m == nil:
	case m.Status.ReadyReplicas == 0:
		checks = append(checks, fail("manager", log, "none of %d is ready: new pods are not protected", m.Status.Replicas))
	case m.Status.ReadyReplicas < m.Status.Replicas || m.Status.UpdatedReplicas < m.Status.Replicas:
		checks = append(checks, warn("manager", log, "%d of %d are ready, %d are of the newest version",
			m.Status.ReadyReplicas, m.Status.Replicas, m.Status.UpdatedReplicas))
	default:
		checks = append(checks, ok("manager", "%d of %d are ready", m.Status.ReadyReplicas, m.Status.Replicas))
	}
	if !h.couldRead("leases") {
		return checks
	}
	if h.Lease == nil || h.Lease.Spec.HolderIdentity == nil || *h.Lease.Spec.HolderIdentity == "" || h.Lease.Spec.RenewTime == nil {
		return append(checks, fail("leader", log, "no manager leads: Checkpoints do not expire, and no location is tried"))
	}
	lasts := leaseTime
	if s := h.Lease.Spec.LeaseDurationSeconds; s != nil {
		lasts = time.Duration(*s) * time.Second
	}
	holder, _, _ := strings.Cut(*h.Lease.Spec.HolderIdentity, "_")
	if since := h.Now.Sub(h.Lease.Spec.RenewTime.Time); since > 2*lasts {
		return append(checks, fail("leader", log, "%s led last, %s ago: Checkpoints do not expire, and no location is tried", holder, since.Round(time.Second)))
	}
	return append(checks, ok("leader", "%s leads", holder))
}

// couldRead tells whether the user was allowed to read something.
func (h *Health) couldRead(what string) bool { return !slices.Contains(h.Unread, what) }

func (h *Health) checkAgents() []inspect.Check {
	look := fmt.Sprintf("kubectl describe pods -n %s -l app.kubernetes.io/name=checkpoint-agent", h.AgentNamespace)
	switch a := h.Agent; {
	case a == nil && h.couldRead("daemonsets"):
		return []inspect.Check{fail("agents", mendInstall+", or name their namespace with --agent-namespace",
			"there is no DaemonSet checkpoint-agent in namespace %s", h.AgentNamespace)}
	case a == nil:
		return nil
	case a.Status.NumberReady < a.Status.DesiredNumberScheduled:
		return []inspect.Check{fail("agents", look, "%d of %d are ready", a.Status.NumberReady, a.Status.DesiredNumberScheduled)}
	case a.Status.UpdatedNumberScheduled < a.Status.DesiredNumberScheduled:
		return []inspect.Check{warn("agents", "wait for the rollout: kubectl rollout status -n "+h.AgentNamespace+" daemonset/checkpoint-agent",
			"%d of %d are of the newest version", a.Status.UpdatedNumberScheduled, a.Status.DesiredNumberScheduled)}
	}
	return []inspect.Check{ok("agents", "%d of %d are ready", h.Agent.Status.NumberReady, h.Agent.Status.DesiredNumberScheduled)}
}

func (h *Health) checkClass() []inspect.Check {
	switch {
	case h.Class == nil && !h.couldRead("runtimeclasses"):
		return nil
	case h.Class == nil:
		return []inspect.Check{fail("RuntimeClass", mendInstall, "there is no RuntimeClass %s: labelled pods cannot be made", keys.RuntimeClass)}
	case h.Class.Handler != keys.RuntimeClass:
		return []inspect.Check{fail("RuntimeClass", mendUpgrade,
			"the RuntimeClass %s names the handler %q; it has to be %s", keys.RuntimeClass, h.Class.Handler, keys.RuntimeClass)}
	}
	return []inspect.Check{ok("RuntimeClass", "%s, on nodes with the label %s", keys.RuntimeClass, keys.NodeReady)}
}

// checkAdmission judges by a pod that was made on trial, and of which nothing is left.
func (h *Health) checkAdmission() []inspect.Check {
	const name = "admission"
	switch {
	case h.TrialError != nil:
		return []inspect.Check{warn(name, "", "a labelled pod could not be made on trial in namespace %s: %v", h.TrialNamespace, h.TrialError)}
	case h.Trial == nil:
		return nil
	case h.Trial.Spec.RuntimeClassName != nil && *h.Trial.Spec.RuntimeClassName == keys.RuntimeClass && h.Trial.Annotations[keys.Effective] != "":
		return []inspect.Check{ok(name, "a labelled pod in namespace %s, made on trial, would be captured", h.TrialNamespace)}
	case h.ConfigError == nil && h.Config.NeedsLabels() || len(h.Config.Names) > 0 && !slices.Contains(h.Config.Names, h.TrialNamespace):
		return []inspect.Check{warn(name, "try one of the allowed namespaces with -n", "a labelled pod in namespace %s, made on trial, would not be captured: "+
			"perhaps as that namespace is not among those that ConfigMap %s allows", h.TrialNamespace, operator.ConfigMap)}
	}
	mend := "see that the API server reaches the Service checkpoint-manager in " + h.Namespace + " (network policies, proxies, firewalls on port 9443), and " +
		"the check of the webhook certificate below; the log of the API server names failed calls"
	return []inspect.Check{fail(name, mend,
		"a labelled pod in namespace %s, made on trial, would not be captured: the webhook was not asked, or did not answer", h.TrialNamespace)}
}

func (h *Health) checkConfig() []inspect.Check {
	switch {
	case !h.couldRead("ConfigMap " + operator.ConfigMap):
		return nil
	case h.ConfigError != nil:
		return []inspect.Check{fail("configuration", mendConfig, "%v", h.ConfigError)}
	case h.Config.Paused != "":
		return []inspect.Check{warn("configuration", mendPause, "%s: nothing is captured or restored", h.Config.Paused)}
	}
	return []inspect.Check{ok("configuration", "ConfigMap %s is understood, and the operator is not paused", operator.ConfigMap)}
}

func (h *Health) checkLocations() (checks []inspect.Check) {
	if !h.couldRead("CheckpointStorageLocations") {
		return nil
	}
	defaults := 0
	for i := range h.Locations {
		l := &h.Locations[i]
		name := "location " + l.Name
		if l.Spec.Role == v1alpha1.RoleDefault {
			defaults++
		}
		switch reason, message, available := Availability(l); {
		case !available:
			checks = append(checks, fail(name, mendLocation+", then: kubectl checkpoint location check "+l.Name, "%s: %s", reason, message))
		case l.IsReadOnly():
			checks = append(checks, ok(name, "bucket %s can be read, and nothing is written to it", l.Spec.Bucket))
		default:
			checks = append(checks, ok(name, "bucket %s can be used", l.Spec.Bucket))
		}
	}
	switch {
	case defaults == 0:
		checks = append(checks, fail("default location", "make one: docs/operations.md#storage",
			"no location has the role Default: states stay on their nodes, but for those of which a CheckpointPolicy names a location"))
	case defaults > 1:
		checks = append(checks, warn("default location", "give all but one the role Named: docs/operations.md#several-buckets",
			"%d locations have the role Default; the oldest is in use", defaults))
	}
	return checks
}

// checkVersions compares those of manager, agents and the program that asks.
func (h *Health) checkVersions() []inspect.Check {
	found := map[string][]string{h.Version: {"this command"}}
	for _, pod := range slices.Concat(h.Managers, h.Agents) {
		if asked, is := h.Asked[pod.Name]; is && asked.Err == nil {
			found[asked.Answer.Version] = append(found[asked.Answer.Version], pod.Name)
		}
	}
	if len(found) == 1 {
		return []inspect.Check{ok("versions", "all are %s", h.Version)}
	}
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(found)) {
		who := found[v]
		text := strings.Join(who[:min(len(who), 3)], ", ")
		if more := len(who) - 3; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, cmp.Or(v, "unknown")+" ("+text+")")
	}
	return []inspect.Check{warn("versions", "they may be one minor version apart while an upgrade is under way: "+mendUpgrade,
		"they differ: %s", strings.Join(parts, "; "))}
}

func (h *Health) checkUser() []inspect.Check {
	if len(h.Lacks) == 0 {
		return []inspect.Check{ok("your rights", "all that kubectl checkpoint needs")}
	}
	return []inspect.Check{warn("your rights", "ask whoever administers the cluster, docs/kubectl-checkpoint.md", "you may not: %s", strings.Join(h.Lacks, "; "))}
}

// answered are the checks that a pod made itself.
func (h *Health) answered(pod, what, namespace string) []inspect.Check {
	asked, is := h.Asked[pod]
	switch {
	case !is:
		return nil
	case asked.Err != nil:
		return []inspect.Check{warn(what, fmt.Sprintf("kubectl logs -n %s %s", namespace, pod), "it could not be asked: %v", asked.Err)}
	}
	return asked.Answer.Checks
}

// checkNode says how it stands with a node.
func (h *Health) checkNode(node *corev1.Node) []inspect.Check {
	if os := node.Labels[corev1.LabelOSStable]; os != "" && os != "linux" {
		return nil
	}
	i := slices.IndexFunc(h.Agents, func(p corev1.Pod) bool { return p.Spec.NodeName == node.Name })
	ready := node.Labels[keys.NodeReady] == keys.True
	var checks []inspect.Check
	if c := nodeReady(node); c == nil || c.Status != corev1.ConditionTrue {
		message := "kubelet has said nothing"
		if c != nil {
			message = c.Message
		}
		return []inspect.Check{fail("kubelet", "kubectl describe node "+node.Name, "the node is not ready: %s", message)}
	}
	if !h.couldRead("agents") {
		return checks
	}
	if i < 0 {
		return []inspect.Check{fail("agent",
			"kubectl get pods -n "+h.AgentNamespace+" -o wide; a virtual kubelet, or a nodeSelector of the DaemonSet, may keep it away",
			"there is none on this node: labelled pods do not come here")}
	}
	if !ready {
		checks = append(checks, fail("label "+keys.NodeReady, "kubectl logs -n "+h.AgentNamespace+" "+h.Agents[i].Name,
			"the node does not have it: labelled pods do not come here, as the agent has not installed the handler"))
	} else {
		checks = append(checks, ok("label "+keys.NodeReady, "labelled pods come here"))
	}
	return append(checks, h.answered(h.Agents[i].Name, "agent", h.AgentNamespace)...)
}

func nodeReady(node *corev1.Node) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c
		}
	}
	return nil
}
