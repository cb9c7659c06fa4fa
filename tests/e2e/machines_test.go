package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// disguise has a node look as if its processor had one instruction more, until the test ends. Nothing else may run on the cluster meanwhile.
func disguise(t *testing.T, c *lab.Cluster, node, instruction string) {
	t.Helper()
	class := func() string {
		now, err := c.Client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return now.Labels[keys.NodeClass]
	}
	onNode := func(script string) {
		if text, err := lab.Localcluster(context.Background(), c.Name, "node", "exec", node, "--", "sh", "-ec", script); err != nil {
			t.Errorf("%v: %s", err, text)
		}
	}
	before := class()
	onNode("sed 's/^flags.*/& " + instruction + "/' /proc/cpuinfo > /run/cpuinfo; mount --bind /run/cpuinfo /proc/cpuinfo")
	t.Cleanup(func() { onNode("umount /proc/cpuinfo") }) // the label follows within a minute; what is captured and restored goes by the file
	agents := metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + install.Agent, FieldSelector: "spec.nodeName=" + node}
	err := c.Client.CoreV1().Pods(install.AgentNamespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, agents) // it looks at its start
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 2*time.Minute, "node "+node+" says that it is another machine", func() error {
		if now := class(); now == before || now == "" {
			return fmt.Errorf("its class is %q", now)
		}
		return nil
	})
}

func TestAPodGoesOnWhereTheProcessorDoesAndStartsColdElsewhere(t *testing.T) {
	c := labelled(t)
	disguise(t, c, "worker-2", "avx_of_tomorrow")
	lift := cordon(t, c, "worker-1")
	w, pod := newWorkload(t, c, deployment, nil)
	before := waitForCount(t, c, pod, 10)
	lift()
	busy := start(t, c, w.ns, "busy", onNode(serving(), "worker-2")) // by itself the scheduler takes the emptier node
	w.deletePod(t, pod)
	second := w.running(t, pod)
	if second.Spec.NodeName != "worker-2" {
		t.Errorf("the new pod is on %s, where it cannot go on", second.Spec.NodeName)
	}
	before = w.goesOn(t, second, before, nil)
	if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), busy.Name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	cordon(t, c, "worker-2")
	w.deletePod(t, second)
	third := w.running(t, second)
	cold := w.restored(t, third)
	if cold.Status != corev1.ConditionFalse || cold.Reason != keys.ColdIncompatible || !strings.Contains(cold.Message, "no avx_of_tomorrow") {
		t.Errorf("it says %+v", cold)
	}
	if now := w.countOf(t, third); now.Count >= before.Count {
		t.Errorf("it counts %+v after %+v", now, before)
	}
	w.checkpoint(t, second, "is not claimed, and says what machine it is of", func(c *v1alpha1.Checkpoint) error {
		if m := c.Status.Machine; c.Status.Claim != nil || m == nil || !strings.Contains(m.Instructions, "avx_of_tomorrow") {
			return fmt.Errorf("claim %+v, machine %+v", c.Status.Claim, c.Status.Machine)
		}
		return nil
	})
}
