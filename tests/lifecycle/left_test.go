package lifecycle

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// places are where something of the operator lies on a node.
const places = "/opt/checkpoint /run/checkpoint /var/lib/checkpoint /etc/containerd/conf.d/transparent-checkpoint.toml"

// kinds are those of which the operator has objects, but for those in its own namespaces.
const kinds = "namespaces,crds,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations," +
	"validatingadmissionpolicies,validatingadmissionpolicybindings,runtimeclasses"

// nothingIsLeft looks for what an operator that was removed should not leave: objects, labels of nodes, files, and the handler.
func nothingIsLeft(t *testing.T, c *lab.Cluster) {
	t.Helper()
	eventually(t, time.Minute, "no object is left", func() string {
		left := ""
		for line := range strings.Lines(kubectl(t, c, "get", kinds, "-o", "name")) {
			if strings.Contains(line, "checkpoint") {
				left += line
			}
		}
		return left
	})
	const said = "jsonpath={.items[*].metadata.labels}{.items[*].metadata.annotations}"
	if nodes := kubectl(t, c, "get", "nodes", "-o", said); strings.Contains(nodes, "memverge.ai") {
		t.Errorf("on the nodes there is: %s", nodes)
	}
	for _, node := range nodesOf(t, c) {
		eventually(t, 30*time.Second, "no file is left on "+node, func() string {
			return c.OnNode(t, node, "ls -d "+places+" 2> /dev/null || true")
		})
		if left := c.OnNode(t, node, "grep -rl transparent-checkpoint /etc/containerd /etc/systemd 2> /dev/null || true"); left != "" {
			t.Errorf("%s is named by %s", node, left)
		}
		eventually(t, 30*time.Second, "containerd of "+node+" does not serve the handler", func() string {
			return c.OnNode(t, node, "containerd config dump | grep -o transparent-checkpoint | head -1")
		})
	}
}

func nodesOf(t *testing.T, c *lab.Cluster) []string {
	t.Helper()
	return strings.Fields(kubectl(t, c, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
}

// kubectl returns what it prints; a failure ends the test.
func kubectl(t *testing.T, c *lab.Cluster, args ...string) string {
	t.Helper()
	return c.Run(t, append([]string{"kubectl", "--"}, args...)...)
}

// eventually waits until nothing is left of which it is told.
func eventually(t *testing.T, patience time.Duration, what string, left func() string) {
	t.Helper()
	lab.Eventually(t, patience, what, func() error {
		if last := strings.TrimSpace(left()); last != "" {
			return errors.New(last)
		}
		return nil
	})
}
