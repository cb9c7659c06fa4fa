package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// slowUploads has the agent of a node send only so many bytes a second, until the test ends. No other test may run meanwhile.
func slowUploads(t *testing.T, c *lab.Cluster, node, bandwidth string) {
	t.Helper()
	const flag = "--upload-bandwidth="
	set := func(ctx context.Context, bandwidth string, strategy appsv1.DaemonSetUpdateStrategyType) {
		all := c.Client.AppsV1().DaemonSets(install.AgentNamespace)
		err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			agents, err := all.Get(ctx, install.Agent, metav1.GetOptions{})
			if err != nil {
				return err
			}
			agents.Spec.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: strategy}
			args := &agents.Spec.Template.Spec.Containers[0].Args
			*args = slices.DeleteFunc(*args, func(arg string) bool { return strings.HasPrefix(arg, flag) })
			if bandwidth != "" { // else as it is installed
				*args = append(*args, flag+bandwidth)
			}
			_, err = all.Update(ctx, agents, metav1.UpdateOptions{})
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	set(t.Context(), bandwidth, appsv1.OnDeleteDaemonSetStrategyType) // the other agents stay as they are
	t.Cleanup(func() {
		set(context.Background(), "", appsv1.OnDeleteDaemonSetStrategyType)
		anotherAgent(t, c, node)
		set(context.Background(), "", appsv1.RollingUpdateDaemonSetStrategyType)
	})
	anotherAgent(t, c, node)
}

// anotherAgent ends the agent of a node and waits for the next one.
func anotherAgent(t *testing.T, c *lab.Cluster, node string) {
	t.Helper()
	ctx, pods := context.Background(), c.Client.CoreV1().Pods(install.AgentNamespace)
	before, err := agentOf(ctx, c, node)
	if err == nil {
		err = pods.Delete(ctx, before.Name, metav1.DeleteOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	awaitAgent(t, c, node, before)
}

// awaitAgent waits for an agent of a node that is ready, other than a former one.
func awaitAgent(t *testing.T, c *lab.Cluster, node string, former *corev1.Pod) {
	t.Helper()
	began := time.Now() // also when the test has ended, as in a cleanup
	for {
		agent, err := agentOf(context.Background(), c, node)
		if err == nil && (former == nil || agent.UID != former.UID) {
			t.Logf("node %s has another agent after %s", node, time.Since(began).Round(time.Second))
			return
		}
		if time.Since(began) > 3*time.Minute {
			t.Fatalf("node %s has no other agent: %v", node, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// agentOf returns the agent of a node, when it is ready.
func agentOf(ctx context.Context, c *lab.Cluster, node string) (*corev1.Pod, error) {
	list, err := c.Client.CoreV1().Pods(install.AgentNamespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/name=" + install.Agent, FieldSelector: "spec.nodeName=" + node,
	})
	if err != nil {
		return nil, err
	}
	for i, pod := range list.Items {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue && pod.DeletionTimestamp.IsZero() {
				return &list.Items[i], nil
			}
		}
	}
	return nil, fmt.Errorf("of %d agents none is ready", len(list.Items))
}

// killAgent kills the agent of the node that it runs on.
const killAgent = `for p in /proc/[0-9]*; do
  if read name < $p/comm && [ "$name" = agent ]; then kill -9 ${p#/proc/} && echo killed; fi
done 2>/dev/null`

// Whatever ends an agent in the middle of an upload, the next one goes on. No other test may run meanwhile, since a node is stopped.
func TestAnUploadThatWasCutOffGoesOn(t *testing.T) {
	const node = "worker-1"
	bandwidth := "6Mi"
	if hasSystemd(t, labelled(t), node) { // a virtual machine, which takes longer for all else
		bandwidth = "2Mi"
	}
	slowUploads(t, labelled(t), node, bandwidth)
	for _, test := range []struct {
		how          string
		cutOff, goOn func(*testing.T, *lab.Cluster)
	}{
		{"when the agent is killed", func(t *testing.T, c *lab.Cluster) {
			if output := c.OnNode(t, node, killAgent); output != "killed\n" {
				t.Errorf("the agent was not killed: %q", output)
			}
		}, func(*testing.T, *lab.Cluster) {}},
		{
			"when the power of the node is cut",
			func(t *testing.T, c *lab.Cluster) { c.Run(t, "node", "stop", node) }, func(t *testing.T, c *lab.Cluster) { c.Run(t, "node", "start", node) },
		},
	} {
		t.Run(test.how, func(t *testing.T) {
			c := labelled(t)
			lift := cordon(t, c, "worker-2")
			w, pod := newWorkload(t, c, statefulSet, func(template *corev1.PodTemplateSpec) {
				template.Spec.Containers[0].Args = []string{"serve", "-mib=64"}
			})
			lift()
			before := waitForCount(t, c, pod, 10)
			scale(t, w, 0) // nothing is restored meanwhile
			synced := fmt.Sprintf("/var/lib/checkpoint/captures/%s/1/%s", pod.UID, capture.SyncedFile)
			c.OnNode(t, node, "for i in $(seq 600); do [ -e "+synced+" ] && exit; sleep 0.1; done; exit 1")
			time.Sleep(2 * time.Second) // into the middle: memory is sent since the dump began
			test.cutOff(t, c)
			name := v1alpha1.TerminationName(pod.Name, pod.UID)
			now, err := operator.Checkpoints.CheckpointV1alpha1().Checkpoints(w.ns).Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || meta.IsStatusConditionTrue(now.Status.Conditions, v1alpha1.CheckpointUploaded) {
				t.Errorf("that was not in the middle: %v, %v", now, err)
			}
			test.goOn(t, c)
			w.awaitGone(t, pod)
			w.checkpoint(t, pod, "is completed", is(v1alpha1.CheckpointReady, metav1.ConditionTrue, v1alpha1.StateCompleted))
			scale(t, w, 1)
			w.goesOn(t, w.running(t, pod), before, nil)
		})
	}
}

func hasSystemd(t *testing.T, c *lab.Cluster, node string) bool {
	t.Helper()
	return strings.Contains(c.OnNode(t, node, "cat /proc/1/comm"), "systemd")
}

// needsSystemd skips a test where nodes cannot be shut down, only switched off.
func needsSystemd(t *testing.T, c *lab.Cluster, node string) {
	t.Helper()
	if !hasSystemd(t, c, node) {
		t.Skip("node " + node + " has no systemd that shuts it down: it is one of `make test-vm`")
	}
}

// saysOfShutdown waits until a node says whether its pods are captured when it shuts down, and returns why.
func saysOfShutdown(t *testing.T, c *lab.Cluster, node, want string) (message string) {
	t.Helper()
	lab.Eventually(t, 2*time.Minute, fmt.Sprintf("node %s says %s=%s", node, keys.GracefulShutdown, want), func() error {
		now, err := c.Client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		if err == nil && now.Labels[keys.GracefulShutdown] != want {
			err = fmt.Errorf("it says %q: %q", now.Labels[keys.GracefulShutdown], now.Annotations[keys.GracefulShutdown])
		}
		if err == nil {
			message = now.Annotations[keys.GracefulShutdown]
		}
		return err
	})
	return message
}

// A node is shut down as by whoever maintains it, without a drain. Its pods go on elsewhere, and nothing of them is on its disk alone. No other test may
// run meanwhile.
func TestPodsAreInTheBucketBeforeTheirNodeIsOff(t *testing.T) {
	const node = "worker-1"
	c := labelled(t)
	needsSystemd(t, c, node)
	has(t, saysOfShutdown(t, c, node, keys.True), "pods have 1m0s to be captured, then the agent has 1m0s")
	slowUploads(t, c, node, "1Mi") // so that it is not over when the agent gets its signal
	lift := cordon(t, c, "worker-2")
	w, pod := newWorkload(t, c, deployment, func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Args = []string{"serve", "-mib=24"}
	})
	lift()
	before := waitForCount(t, c, pod, 10)
	agent, err := agentOf(t.Context(), c, node)
	if err != nil {
		t.Fatal(err)
	}
	c.OnNode(t, node, "systemctl poweroff")
	lab.Eventually(t, 2*time.Minute, "node "+node+" is off", func() error { return isOff(t, c, node) })
	found := w.checkpoint(t, pod, "was in the bucket before", func(c *v1alpha1.Checkpoint) error {
		return is(v1alpha1.CheckpointUploaded, metav1.ConditionTrue, v1alpha1.StateCompleted)(c)
	})
	if found.Spec.Trigger != v1alpha1.TriggerNodeShutdown {
		t.Errorf("its trigger is %s", found.Spec.Trigger)
	}
	ended, err := c.Client.CoreV1().Pods(w.ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
	if err == nil && (ended.Status.Phase != corev1.PodFailed || ended.Status.Reason != "Terminated") {
		t.Errorf("the pod is %s: %s", ended.Status.Phase, ended.Status.Reason)
	}
	c.Run(t, "node", "start", node)
	next := w.running(t, pod)
	if next.Spec.NodeName == node {
		t.Errorf("the new pod is on the node that was shut down")
	}
	w.goesOn(t, next, before, nil)
	awaitAgent(t, c, node, agent)
}

// isOff tells of a node that was shut down from within whether it has ended.
func isOff(t *testing.T, c *lab.Cluster, node string) error {
	t.Helper()
	for _, n := range c.Status(t).Nodes {
		if n.Name == node && n.Init.State != "Stopped" {
			return errors.New("it is " + n.Init.State)
		}
	}
	return nil
}

func TestANodeWhoseKubeletDoesNotDelayItsShutdownSaysSo(t *testing.T) {
	const node = "worker-2"
	c := labelled(t)
	needsSystemd(t, c, node)
	saysOfShutdown(t, c, node, keys.True)
	again := func(script string) {
		c.OnNode(t, node, script)
		c.Run(t, "component", "restart", "kubelet", "--node="+node)
		anotherAgent(t, c, node) // it looks at its start
	}
	again("cd /etc/kubernetes; cp kubelet.yaml kubelet.yaml.whole; sed -i /^shutdownGracePeriod/d kubelet.yaml")
	has(t, saysOfShutdown(t, c, node, keys.False), "pods are not captured when this node shuts down: kubelet does not delay it")
	lab.Eventually(t, 20*time.Second, "an event says so", func() error {
		list, err := c.Client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=NoGracefulShutdown,involvedObject.name=" + node})
		if err == nil && len(list.Items) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
	again("cd /etc/kubernetes; mv kubelet.yaml.whole kubelet.yaml")
	saysOfShutdown(t, c, node, keys.True)
}
