package lifecycle

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// TestTheOperatorIsUpgradedWhilePodsAreCaptured installs what the previous commit was, has pods run, and brings this one over it. Before, meanwhile and after
// that a pod is deleted each; all go on, and one that nobody touches is not disturbed.
func TestTheOperatorIsUpgradedWhilePodsAreCaptured(t *testing.T) {
	c := cluster(t)
	previous := previousCommit(t)
	if _, err := install.From(t.Context(), c, previous, nil); err != nil {
		t.Fatal(err)
	}
	w := counting(t, c, "upgrade", 4)
	pods := w.pods(t)
	before := map[string]int{}
	for _, pod := range pods {
		before[pod] = w.count(t, pod)
	}
	containers := w.containers(t, pods[0])
	remove := func(pod string) {
		before[pod] = w.count(t, pod)
		kubectl(t, c, "delete", "pod", "-n", w.namespace, pod, "--wait=false")
	}
	generation := func() string {
		return kubectl(t, c, "get", "daemonset", "-n", install.AgentNamespace, install.Agent, "-o", "jsonpath={.metadata.generation}")
	}
	old := generation()
	remove(pods[1])
	upgraded := make(chan error, 1)
	go func() {
		_, err := install.Install(t.Context(), c, nil)
		upgraded <- err
	}()
	eventually(t, 5*time.Minute, "the agents are being replaced", func() string {
		if now := generation(); now == old {
			return "their DaemonSet has generation " + now
		}
		return ""
	})
	remove(pods[2])
	if err := <-upgraded; err != nil {
		t.Fatal(err)
	}
	remove(pods[3])
	w.allGoOn(t, 4, before)
	if now := w.containers(t, pods[0]); now != containers {
		t.Errorf("a pod that nobody deleted had the containers %s, and has %s", containers, now)
	}
}

// previousCommit is a tree of the commit before this one. Where its history is not there, as in a shallow clone, it is this one.
func previousCommit(t *testing.T) string {
	t.Helper()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "previous")
	output, err := exec.CommandContext(t.Context(), "git", "-C", root, "worktree", "add", "--detach", dir, "HEAD~1").CombinedOutput()
	if err != nil {
		t.Logf("the previous commit is not to be had, so it is this one that is upgraded: %s", output)
		return root
	}
	t.Cleanup(func() {
		if output, err := exec.Command("git", "-C", root, "worktree", "remove", "--force", dir).CombinedOutput(); err != nil { //nolint:noctx // it outlives the test
			t.Errorf("%v: %s", err, output)
		}
	})
	return dir
}

// work is a Deployment of labelled pods that count in memory alone.
type work struct {
	c         *lab.Cluster
	namespace string
}

const counterImage = "counter:1"

// counting makes it, in a namespace of its own, and returns when all have counted.
func counting(t *testing.T, c *lab.Cluster, namespace string, many int) *work {
	t.Helper()
	c.Run(t, "image", "build", counterImage, "--from-debian", "")
	file := filepath.Join(t.TempDir(), "work.yaml")
	fill := 50_000_000 // bytes, so that a capture takes a moment
	if lab.AreSlow() {
		fill /= 100
	}
	manifest := fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: work, namespace: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: work}}
  template:
    metadata:
      labels: {app: work, memverge.ai/checkpoint-mode: "true"}
    spec:
      containers:
        - name: main
          image: %[3]s
          command: [bash, -c, 'x=$(head -c %[4]d /dev/urandom | base64); while sleep 0.5; do echo "I have counted to $((++i)) with ${#x}"; done']
`, namespace, many, counterImage, fill)
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, c, "apply", "-f", file)
	t.Cleanup(func() {
		words := []string{"kubectl", "--", "delete", "namespace", namespace, "--ignore-not-found", "--wait=false"}
		if _, err := lab.Localcluster(context.Background(), c.Name, words...); err != nil {
			t.Log(err)
		}
	})
	w := &work{c: c, namespace: namespace}
	eventually(t, 2*time.Minute, "all pods count", func() string {
		if pods := w.pods(t); len(pods) != many {
			return fmt.Sprint("there are ", pods)
		}
		for _, pod := range w.pods(t) {
			if w.count(t, pod) < 3 {
				return pod + " has not counted to 3"
			}
		}
		return ""
	})
	return w
}

// pods are the names of those that run and are not being deleted.
func (w *work) pods(t *testing.T) (names []string) {
	t.Helper()
	const each = `{range .items[*]}{.metadata.name} {.status.phase} {.metadata.deletionTimestamp}{"\n"}{end}`
	for line := range strings.Lines(kubectl(t, w.c, "get", "pods", "-n", w.namespace, "-o", "jsonpath="+each)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[1] == "Running" {
			names = append(names, fields[0])
		}
	}
	return names
}

// count is the last number that a pod has printed; 0 before the first.
func (w *work) count(t *testing.T, pod string) int {
	t.Helper()
	output, err := lab.Localcluster(t.Context(), w.c.Name, "kubectl", "--", "logs", "-n", w.namespace, pod, "--tail=1")
	numbers := counts(t, output)
	if err != nil || len(numbers) == 0 {
		return 0
	}
	return numbers[len(numbers)-1]
}

// first is the first number that a pod has printed.
func (w *work) first(t *testing.T, pod string) int {
	t.Helper()
	numbers := counts(t, kubectl(t, w.c, "logs", "-n", w.namespace, pod))
	if len(numbers) == 0 {
		return 0
	}
	return numbers[0]
}

func (w *work) containers(t *testing.T, pod string) string {
	t.Helper()
	return kubectl(t, w.c, "get", "pod", "-n", w.namespace, pod, "-o", "jsonpath={.status.containerStatuses[*].containerID}")
}

// allGoOn waits until that many pods run, and checks that those which are new were restored, each from a number of its own.
func (w *work) allGoOn(t *testing.T, many int, before map[string]int) {
	t.Helper()
	const each = `{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="memverge.ai/Restored")].status}{"\n"}{end}`
	eventually(t, 3*time.Minute, "all pods go on", func() string {
		pods := w.pods(t)
		if len(pods) != many {
			return fmt.Sprint("there are ", pods)
		}
		for _, pod := range pods {
			if w.count(t, pod) == 0 {
				return pod + " has not counted yet"
			}
		}
		said := kubectl(t, w.c, "get", "pods", "-n", w.namespace, "-o", "jsonpath="+each)
		for _, pod := range pods {
			if _, old := before[pod]; !old && !strings.Contains(said, pod+" True") {
				return said
			}
		}
		return ""
	})
	for _, pod := range w.pods(t) {
		if _, old := before[pod]; old {
			continue
		}
		if first := w.first(t, pod); first < 3 {
			t.Errorf("%s began with %d", pod, first)
		}
	}
}
