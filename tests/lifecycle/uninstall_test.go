package lifecycle

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// TestTheOperatorIsRemovedWhilePodsRun: they go on, they can start again after their node lost its power, new ones are made as if there had been no operator,
// and with the last of them the last trace goes.
func TestTheOperatorIsRemovedWhilePodsRun(t *testing.T) {
	c := cluster(t)
	if _, err := install.Install(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
	w := counting(t, c, "removal", 2)
	pods := w.pods(t)
	containers := w.containers(t, pods[0]) + w.containers(t, pods[1])
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, c, "apply", "-k", filepath.Join(root, "manifests/uninstall"))
	eventually(t, 5*time.Minute, "the operator's namespaces are gone", func() string {
		return kubectl(t, c, "get", "namespaces", "-l", "app.kubernetes.io/part-of=transparent-checkpoint", "-o", "name")
	})
	if now := w.containers(t, pods[0]) + w.containers(t, pods[1]); now != containers {
		t.Errorf("the pods had the containers %s, and have %s", containers, now)
	}
	if classes := kubectl(t, c, "get", "runtimeclasses", "-o", "name"); !strings.Contains(classes, "transparent-checkpoint") {
		t.Errorf("there is no RuntimeClass any more: %s", classes)
	}

	node := kubectl(t, c, "get", "pod", "-n", w.namespace, pods[0], "-o", "jsonpath={.spec.nodeName}")
	c.Run(t, "node", "stop", node)
	c.Run(t, "node", "start", node)
	eventually(t, 3*time.Minute, "a pod with our RuntimeClass starts again", func() string {
		if now := w.containers(t, pods[0]); now == "" || strings.Contains(containers, now) || w.count(t, pods[0]) == 0 {
			return pods[0] + " has the containers " + now
		}
		return ""
	})

	kubectl(t, c, "delete", "pods", "-n", w.namespace, "--all", "--grace-period=1") // a bash that is process 1 does not end by its signal
	eventually(t, 2*time.Minute, "pods without our RuntimeClass take their place", func() string {
		if now := w.pods(t); len(now) != 2 {
			return "there are " + strings.Join(now, ", ")
		}
		return kubectl(t, c, "get", "pods", "-n", w.namespace, "-o", "jsonpath={.items[*].spec.runtimeClassName}")
	})
	kubectl(t, c, "delete", "runtimeclass", "transparent-checkpoint")
	kubectl(t, c, "label", "nodes", "--all", "memverge.ai/checkpoint-ready-", "memverge.ai/checkpoint-node-class-", "memverge.ai/graceful-shutdown-")
	kubectl(t, c, "annotate", "nodes", "--all", "memverge.ai/checkpoint-node-facts-", "memverge.ai/graceful-shutdown-")
	nothingIsLeft(t, c)
}
