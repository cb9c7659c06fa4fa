package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// typedNode is a node and what its agent says that it is.
type typedNode struct {
	name  string
	facts compat.Facts
}

// bothKinds returns a node with version 1 of control groups and one with version 2, and skips the test where one is missing.
func bothKinds(t *testing.T, c *lab.Cluster) (one, two typedNode) {
	t.Helper()
	nodes, err := c.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: keys.NodeReady + "=" + keys.True})
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes.Items {
		m := typedNode{name: node.Name}
		if err := json.Unmarshal([]byte(node.Annotations[keys.NodeFacts]), &m.facts); err != nil {
			t.Fatal(err)
		}
		if m.facts.ControlGroups == 1 {
			one = m
		} else {
			two = m
		}
	}
	if one.name == "" || two.name == "" {
		t.Skip("the cluster has no node of each kind: make test-vm brings up one that has")
	}
	return one, two
}

// crosses has a pod be captured on the one node and made again on the other, where it goes on if the rules allow it, and else starts cold and names what
// differs.
func crosses(t *testing.T, c *lab.Cluster, from, to typedNode, policy *v1alpha1.RestoreCompatibility) {
	t.Helper()
	rules := compat.Rules{}
	w := prepareWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Resources = limitsOf("500m", "100Mi")
	})
	if policy != nil {
		w.policy(t, v1alpha1.RestorePolicySpec{Source: v1alpha1.RestoreLatest, Compatibility: *policy})
		rules = compat.Rules{CPU: compat.CPURule(policy.CPU), Kernel: compat.KernelRule(policy.Kernel)}
		// Go chooses instructions at its start: it has to take none that only the first node has, as a program would be written that knows both.
		w.template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "GODEBUG", Value: "cpu.avx512f=off,cpu.avx512bw=off,cpu.avx512vl=off"}}
		// A node without AppArmor confines nothing, and what was not confined is not restored where it would be.
		w.template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
		}
	}
	w.template.Spec.NodeSelector = map[string]string{corev1.LabelHostname: from.name}
	w.create(t)
	pod := w.running(t, nil)
	before := waitForCount(t, c, pod, 5)
	w.template.Spec.NodeSelector[corev1.LabelHostname] = to.name
	w.deletePod(t, pod)
	next := w.running(t, pod)
	if next.Spec.NodeName != to.name {
		t.Fatalf("it is on %s", next.Spec.NodeName)
	}
	if mismatch := rules.Check(to.facts, from.facts); mismatch != nil {
		w.isCold(t, next, keys.ColdIncompatible, mismatch.Error())
		return
	}
	const hidden = "/proc/kcore" // of what a container must not see, what Debian's kernel shows and others may not
	has := func(n typedNode) bool { return c.OnNode(t, n.name, "ls "+hidden+" 2>/dev/null || true") != "" }
	if has(to) && !has(from) {
		w.isCold(t, next, keys.ColdSecurityContextMismatch, "procMount of the captured container was "+hidden+" not there")
		return
	}
	w.goesOn(t, next, before, nil)
	fresh := start(t, c, w.ns, "fresh", onNode(w.template.Spec, to.name))
	waitForCount(t, c, fresh, 0)
	if saw, sees := mountsSeenBy(t, c, fresh), mountsSeenBy(t, c, next); saw != sees {
		t.Errorf("a new container has\n%s\nthis one has\n%s", saw, sees)
	}
	// And back, where it came from or not: what was restored can be captured.
	before = w.countOf(t, next)
	w.deletePod(t, next)
	w.goesOn(t, w.running(t, next), before, nil)
}

// mountsSeenBy is where a pod has control groups of which kind.
func mountsSeenBy(t *testing.T, c *lab.Cluster, pod *corev1.Pod) string {
	t.Helper()
	var mounts []string
	for line := range strings.Lines(say(t, c, pod, "file/proc/self/mountinfo")) {
		fields := strings.Fields(line)
		_, behind, _ := strings.Cut(line, " - ")
		if kind, _, _ := strings.Cut(behind, " "); len(fields) > 5 && strings.HasPrefix(fields[4], "/sys/fs/cgroup") {
			mounts = append(mounts, fields[4]+" "+kind+" "+fields[5]+"\n")
		}
	}
	slices.Sort(mounts)
	return strings.Join(mounts, "")
}

func TestAPodCrossesBetweenVersionsOfControlGroups(t *testing.T) {
	c := labelled(t)
	one, two := bothKinds(t, c)
	t.Logf("%s is %+v", one.name, one.facts)
	t.Logf("%s is %+v", two.name, two.facts)
	anything := &v1alpha1.RestoreCompatibility{CPU: v1alpha1.CPUIgnore, Kernel: v1alpha1.KernelAny, Image: v1alpha1.ImageSame}
	t.Run("from 2 to 1", func(t *testing.T) { crosses(t, c, two, one, nil) })
	t.Run("from 1 to 2", func(t *testing.T) { crosses(t, c, one, two, nil) })
	t.Run("from 1 to 2 whatever the rules say", func(t *testing.T) { crosses(t, c, one, two, anything) })
}

// Where a node does not do, the scheduler takes another one, if it has a choice.
func TestAPodGoesBackToItsKindOfNode(t *testing.T) {
	c := labelled(t)
	one, two := bothKinds(t, c)
	if (compat.Rules{}).Check(two.facts, one.facts) == nil {
		t.Skip("what runs on the one node goes on on the other")
	}
	lift := cordon(t, c, two.name)
	w, pod := newWorkload(t, c, deployment, nil)
	before := waitForCount(t, c, pod, 5)
	lift()
	start(t, c, w.ns, "busy", onNode(serving(), one.name)) // by itself the scheduler takes the emptier node
	w.deletePod(t, pod)
	next := w.running(t, pod)
	if next.Spec.NodeName != one.name {
		t.Errorf("the new pod is on %s, where it cannot go on", next.Spec.NodeName)
	}
	w.goesOn(t, next, before, nil)
}
