package e2e

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// RECORD_METRICS names the file that TestMetricsTellOfARun writes what it scrapes to, for tests/monitoring: tests/monitoring/testdata/run.txt.gz. It takes some
// minutes longer then, and stops the bucket for a while, so it runs alone: RECORD_METRICS=FILE go test ./tests/e2e -run TestMetricsTellOfARun.
const recordVariable = "RECORD_METRICS"

const scrapeInterval = 15 * time.Second

// scraped is what one pod of the operator says of itself.
type scraped struct {
	pod  corev1.Pod
	job  string
	text string
}

// scrape asks all pods of the operator for their metrics.
func scrape(ctx context.Context, c *lab.Cluster) (all []scraped, err error) {
	for _, target := range []struct{ namespace, name, port string }{
		{install.Namespace, install.Manager, "8080"}, {install.AgentNamespace, install.Agent, "9436"},
	} {
		pods, err := c.Client.CoreV1().Pods(target.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + target.name})
		if err != nil {
			return nil, err
		}
		for _, pod := range pods.Items {
			if pod.Status.Phase != corev1.PodRunning || !pod.DeletionTimestamp.IsZero() {
				continue
			}
			text, err := c.Client.CoreV1().RESTClient().Get().Namespace(pod.Namespace).Resource("pods").Name(pod.Name + ":" + target.port).
				SubResource("proxy").Suffix("metrics").DoRaw(ctx)
			if err != nil {
				return nil, fmt.Errorf("scrape %s: %w: %s", pod.Name, err, text)
			}
			all = append(all, scraped{pod, target.name, string(text)})
		}
	}
	return all, nil
}

// kept are the series that a recording has: those that an alert or the dashboard may look at.
var kept = regexp.MustCompile(`^(# TYPE )?(checkpoint_|workqueue_depth|controller_runtime_(reconcile_errors|webhook_requests)_total)`)

// record writes a scrape every now and then until the context ends, in the form that tests/monitoring reads.
func record(ctx context.Context, c *lab.Cluster, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	packed := gzip.NewWriter(file)
	for ctx.Err() == nil {
		at := time.Now()
		all, scrapeErr := scrape(context.WithoutCancel(ctx), c)
		err = errors.Join(err, scrapeErr)
		for _, s := range all {
			_, writeErr := fmt.Fprintf(packed, "#scrape %d job=%s node=%s pod=%s instance=%s\n",
				at.UnixMilli(), s.job, s.pod.Spec.NodeName, s.pod.Name, s.pod.Status.PodIP)
			err = errors.Join(err, writeErr)
			for line := range strings.Lines(s.text) {
				if kept.MatchString(line) {
					_, writeErr = packed.Write([]byte(line))
					err = errors.Join(err, writeErr)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(at.Add(scrapeInterval))):
		}
	}
	return errors.Join(err, packed.Close(), file.Close())
}

// namesFrom are the metrics in a text: those of the lines that say of what type they are.
var typeLine = regexp.MustCompile(`(?m)^# TYPE (checkpoint_[a-z_]+) `)

// documentedMetrics are those of docs/reference.md, and those of them that a run without trouble need not show.
func documentedMetrics(t *testing.T) (all, rare map[string]bool) {
	t.Helper()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	find := func(path string, pattern *regexp.Regexp) map[string]bool {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, match := range pattern.FindAllStringSubmatch(string(text), -1) {
			names[match[1]] = true
		}
		return names
	}
	return find("docs/reference.md", regexp.MustCompile("(?m)^\\| `(checkpoint_[a-z_]+)` \\|")),
		find("tests/monitoring/testdata/rare.txt", regexp.MustCompile(`(?m)^(checkpoint_[a-z_]+) `))
}

// TestMetricsTellOfARun has pods be captured while they go on and at their end, and restored on the other node: then all that is documented is there.
func TestMetricsTellOfARun(t *testing.T) {
	c := labelled(t)
	path := os.Getenv(recordVariable)
	if path == "" {
		t.Parallel()
	} else {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- record(ctx, c, path) }()
		defer func() {
			time.Sleep(2 * scrapeInterval) // so that the end of it is seen
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(2 * scrapeInterval)
	}
	w, pod := newWorkload(t, c, plainPod, onWorker1)
	w.leaves(t, pod, 1)
	w.crosses(t, pod, "worker-2")
	if path != "" {
		anEventfulRun(t, c)
	}
	lab.Eventually(t, time.Minute, "metrics tell of it", func() error {
		all, err := scrape(t.Context(), c)
		if err != nil {
			return err
		}
		documented, rare := documentedMetrics(t)
		said := map[string]bool{}
		for _, s := range all {
			for _, match := range typeLine.FindAllStringSubmatch(s.text, -1) {
				said[match[1]] = true
				if !documented[match[1]] {
					t.Errorf("%s has the metric %s, which docs/reference.md lacks", s.pod.Name, match[1])
				}
			}
		}
		for name := range documented {
			if !said[name] && !rare[name] {
				err = errors.Join(err, fmt.Errorf("there is no %s", name))
			}
		}
		return err
	})
}

// crosses deletes a plain pod, and checks that its work goes on on another node.
func (w *workload) crosses(t *testing.T, pod *corev1.Pod, node string) *corev1.Pod {
	t.Helper()
	before := w.countOf(t, pod)
	w.template.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	w.deletePod(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	return next
}

// anEventfulRun is what a recording shows besides: pods that come and go, larger ones, and a bucket that is away for a while.
func anEventfulRun(t *testing.T, c *lab.Cluster) {
	t.Helper()
	for i := range 3 {
		w, pod := newWorkload(t, c, plainPod, onWorker1)
		say(t, c, pod, "grow", fmt.Sprintf("mib=%d", 50<<i))
		w.leaves(t, pod, 1)
		pod = w.crosses(t, pod, "worker-2")
		w.crosses(t, pod, "worker-1")
	}
	w, pod := newWorkload(t, c, plainPod, onWorker1)
	c.Run(t, "component", "stop", "minio")
	before := w.countOf(t, pod)
	w.deletePod(t, pod)
	next := w.running(t, pod)
	w.goesOn(t, next, before, nil)
	w.checkpoint(t, pod, "waits for the bucket", is(v1alpha1.CheckpointUploaded, metav1.ConditionFalse, v1alpha1.ReasonStorageUnavailable))
	time.Sleep(2 * scrapeInterval)
	c.Run(t, "component", "start", "minio")
	w.checkpoint(t, pod, "is completed", isComplete)
	time.Sleep(2 * time.Minute) // until the location has been found to work again
}

// TestLogsNameTheCheckpoint looks in the logs of agent and runtime for what they say of a capture and a restore.
func TestLogsNameTheCheckpoint(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, onWorker1)
	w.countOf(t, pod)
	w.crosses(t, pod, "worker-2")
	name := w.checkpoint(t, pod, "is completed", isComplete).Name
	expect := func(where, log string, messages ...string) {
		t.Helper()
		said := map[string]bool{}
		lines := bufio.NewScanner(strings.NewReader(log))
		for lines.Scan() {
			var line map[string]any // in which Pod and pod are two
			if json.Unmarshal(lines.Bytes(), &line) == nil && line["checkpoint"] == name && line["namespace"] == w.ns && line["pod"] == pod.Name {
				message, _, _ := strings.Cut(fmt.Sprint(line["msg"]), " after ")
				said[message] = true
			}
		}
		for _, message := range messages {
			if !said[message] {
				t.Errorf("the log of %s does not say %q of Checkpoint %s:\n%s", where, message, name, log)
			}
		}
	}
	agentOn := func(node string) string {
		pods, err := c.Client.CoreV1().Pods(install.AgentNamespace).List(t.Context(), metav1.ListOptions{
			LabelSelector: "app.kubernetes.io/name=" + install.Agent, FieldSelector: "spec.nodeName=" + node,
		})
		if err != nil || len(pods.Items) == 0 {
			t.Fatal(err, pods)
		}
		log, err := c.Client.CoreV1().Pods(install.AgentNamespace).GetLogs(pods.Items[0].Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(log)
	}
	expect("the agent that captured", agentOn("worker-1"), "captured", "uploaded")
	expect("the agent that restored", agentOn("worker-2"), "it is known what the pod goes on from")
	expect("the runtime that captured", c.OnNode(t, "worker-1", "cat /run/checkpoint/log/"+string(pod.UID)+".log"), "complete")
}
