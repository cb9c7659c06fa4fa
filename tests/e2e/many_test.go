package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// manyPods is how many labelled pods are deleted at once; MANY_PODS takes more than a test can.
func manyPods(t *testing.T) int32 {
	t.Helper()
	if text := os.Getenv("MANY_PODS"); text != "" {
		many, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return int32(many)
	}
	return 12
}

// TestManyPodsOfANodeAreDeletedAtOnce deletes them all in one request. Every one comes back with its own memory, and the node does not do all at once.
func TestManyPodsOfANodeAreDeletedAtOnce(t *testing.T) {
	c := labelled(t)
	w, many := &workload{c: c, ns: namespace(t, c)}, manyPods(t)
	spec := onNode(serving(), "worker-1")
	spec.TerminationGracePeriodSeconds = nil
	spec.Containers[0].Args = []string{"serve", "-mib=8"}
	labels := map[string]string{"app": workloadName, keys.CheckpointMode: keys.True}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: workloadName}, Spec: appsv1.StatefulSetSpec{
		Replicas: &many, PodManagementPolicy: appsv1.ParallelPodManagement, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": workloadName}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
	}}
	if _, err := c.Client.AppsV1().StatefulSets(w.ns).Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	former := map[string]corev1.Pod{}
	pods := w.allRun(t, int(many), former)
	before := w.checksums(t, pods)
	for _, pod := range pods {
		former[pod.Name] = pod
	}
	peaks := watchNode(t, c, "worker-1")
	began := time.Now()
	if err := c.Client.CoreV1().Pods(w.ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	pods = w.allRun(t, int(many), former)
	took := time.Since(began)
	after := w.checksums(t, pods)
	t.Logf("%d pods are back after %s; %s", many, took.Round(time.Second), peaks())
	for name, sum := range before {
		if after[name] != sum {
			t.Errorf("the memory of %s was %s, it is %s", name, sum, after[name])
		}
	}
	for _, pod := range pods {
		if said := w.restored(t, &pod); said.Status != corev1.ConditionTrue {
			t.Errorf("%s says %+v", pod.Name, said)
		}
	}
}

// allRun waits until so many pods run, none of which is a former one.
func (w *workload) allRun(t *testing.T, many int, former map[string]corev1.Pod) []corev1.Pod {
	t.Helper()
	var running []corev1.Pod
	lab.Eventually(t, 8*time.Minute, fmt.Sprintf("%d pods run", many), func() error {
		pods, err := w.c.Client.CoreV1().Pods(w.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		running = nil
		for _, pod := range pods.Items {
			if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp.IsZero() && pod.UID != former[pod.Name].UID && pod.Status.PodIP != "" {
				running = append(running, pod)
			}
		}
		if len(running) != many {
			return fmt.Errorf("%d do", len(running))
		}
		return nil
	})
	return running
}

// checksums asks all pods, by their names.
func (w *workload) checksums(t *testing.T, pods []corev1.Pod) map[string]string {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	sums, places := map[string]string{}, make(chan struct{}, 4)
	var errs error
	for _, pod := range pods {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			sum, err := "", errors.New("not asked")
			for end := time.Now().Add(podPatience); err != nil && time.Now().Before(end) && t.Context().Err() == nil; time.Sleep(100 * time.Millisecond) {
				sum, err = ask(t.Context(), w.c, &pod, "checksum", nil)
			}
			mu.Lock()
			defer mu.Unlock()
			sums[pod.Name], errs = sum, errors.Join(errs, err)
		})
	}
	all.Wait()
	if errs != nil {
		t.Fatal(errs)
	}
	return sums
}

// watchNode looks five times a second at what the operator does on a node, until the returned function is called, which says what it did at most.
func watchNode(t *testing.T, c *lab.Cluster, node string) func() string {
	t.Helper()
	c.OnNode(t, node, "rm -f /run/watched /run/stop-watching")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	done := make(chan string, 1)
	go func() {
		defer cancel()
		text, err := lab.Localcluster(ctx, c.Name, "node", "exec", node, "--", "sh", "-c", watch)
		done <- fmt.Sprintf("%s %v", strings.TrimSpace(text), err)
	}()
	return func() string {
		c.OnNode(t, node, "touch /run/stop-watching")
		return <-done
	}
}

const watch = `
dumps=0 restores=0 waiting=0 anon=0
while [ ! -f /run/stop-watching ]; do
  d=0 r=0 w=0
  for p in /proc/[0-9]*; do
    read -r name < $p/comm || continue
    case "$name" in
    runc) case "$(tr '\0' ' ' < $p/cmdline)" in *" checkpoint "*) d=$((d+1)) ;; *" restore "*) r=$((r+1)) ;; esac ;;
    checkpoint-runt) case "$(tr '\0' ' ' < $p/cmdline)" in *" capture "*) w=$((w+1)) ;; esac ;;
    agent) a=$(awk '/RssAnon/ {print $2}' $p/status); [ "${a:-0}" -gt $anon ] && anon=$a ;;
    esac
  done 2>/dev/null
  [ $d -gt $dumps ] && dumps=$d; [ $r -gt $restores ] && restores=$r; [ $w -gt $waiting ] && waiting=$w
  sleep 0.2
done
echo "at most $dumps dumps and $restores restores at once, $waiting processes that capture or wait, the agent $((anon / 1024)) MiB"`

// TestTenGenerations takes one process from node to node, and looks for what its former pods left behind.
func TestTenGenerations(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	nodes := []string{"worker-1", "worker-2"}
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		template.Spec.NodeSelector = map[string]string{corev1.LabelHostname: nodes[1]}
		template.Spec.Containers[0].Args = []string{"serve", "-mib=8"}
	})
	for path, content := range files {
		put(t, c, pod, path, content)
	}
	state, sum := waitForCount(t, c, pod, 5), answerOf(t, c, pod, "checksum")
	var former []string
	for generation := range 10 {
		w.template.Spec.NodeSelector[corev1.LabelHostname] = nodes[generation%2]
		w.deletePod(t, pod)
		next := w.running(t, pod)
		state = w.goesOn(t, next, state, files)
		if got := answerOf(t, c, next, "checksum"); got != sum {
			t.Fatalf("in generation %d the memory is %s, it was %s", generation+1, got, sum)
		}
		state = waitForCount(t, c, next, state.Count+2)
		former, pod = append(former, string(pod.UID)), next
	}
	for _, node := range nodes {
		lab.Eventually(t, 2*time.Minute, "nothing but logs is left of former pods on "+node, func() error {
			if left := c.OnNode(t, node, fmt.Sprintf(leftOf, strings.Join(former, "|"))); left != "" {
				return errors.New(left)
			}
			return nil
		})
	}
}

// leftOf lists what a node has of the pods whose UIDs are the alternatives %[1]s: files, mounts, control groups, processes. Logs are kept for an hour.
const leftOf = `
find /var/lib/checkpoint /run/checkpoint /var/lib/kubelet/pods -maxdepth 3 ! -path '/run/checkpoint/log/*' 2>/dev/null | grep -E '%[1]s' | head -5
grep -lE '%[1]s' -r /run/checkpoint/containers /run/checkpoint/signals 2>/dev/null | head -5
grep -E '%[1]s' /proc/self/mounts | head -5
find /sys/fs/cgroup -type d 2>/dev/null | grep -E '%[1]s' | head -5
for p in /proc/[0-9]*; do tr '\0' ' ' < $p/cmdline 2>/dev/null | grep -E '%[1]s'; done | grep -v 'sh -ec' | head -5
true`
