package e2e

import (
	"archive/tar"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// canaries are what must be found in no log, event, object or bundle, by what they are. One that is told is as good as one that is published.
type canaries map[string]string

// plant draws one canary for the environment of a program and one for a file of it, which are in its memory too, and adds the secrets of the operator.
func plant(t *testing.T, c *lab.Cluster) canaries {
	t.Helper()
	s3 := c.Status(t).S3
	return canaries{
		"the environment":       "canary-" + hex.EncodeToString(randomBytes(16)),
		"a file":                "canary-" + hex.EncodeToString(randomBytes(16)),
		"the key of the bucket": s3.SecretKey,
	}
}

// lookIn tells of the canaries that a text has. It should show what was looked for: else it is another text.
func (all canaries) lookIn(t *testing.T, place, text, shows string) {
	t.Helper()
	if text == "" || !strings.Contains(text, shows) {
		t.Errorf("%s has %d bytes and no %s: nothing was looked at", place, len(text), shows)
	}
	for what, canary := range all {
		if at := strings.Index(text, canary); at >= 0 {
			t.Errorf("%s tells %s: %s", place, what, text[max(0, at-200):at])
		}
	}
}

// A program's memory, environment and files are in its state and nowhere else, and the keys of the bucket in their Secret, whatever became of its
// captures and restores.
func TestNothingThatIsSecretIsTold(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	planted := plant(t, c)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "canary"}, StringData: map[string]string{"token": planted["the environment"]}}
	change := func(args ...string) func(*corev1.PodTemplateSpec) {
		return func(template *corev1.PodTemplateSpec) {
			template.Annotations = map[string]string{keys.CheckpointDiagnosis: keys.True}
			app := &template.Spec.Containers[0]
			app.Args = append([]string{"serve"}, args...)
			app.Env = append(app.Env, corev1.EnvVar{Name: "TOKEN", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: secret.Name}, Key: "token",
			}}})
		}
	}
	begin := func(args ...string) (*workload, *corev1.Pod) {
		w := prepareWorkload(t, c, deployment, change(args...))
		if _, err := c.Client.CoreV1().Secrets(w.ns).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		w.create(t)
		pod := w.running(t, nil)
		put(t, c, pod, "/canary", planted["a file"])
		return w, pod
	}
	good, pod := begin()
	before := waitForCount(t, c, pod, 3)
	good.deletePod(t, pod)
	next := good.running(t, pod)
	good.goesOn(t, next, before, map[string]string{"/canary": planted["a file"]})

	bad, lost := begin("-undumpable")
	bad.deletePod(t, lost)
	failed := bad.checkpoint(t, lost, "has failed, with the end of a log", func(c *v1alpha1.Checkpoint) error {
		if len(c.Status.LogTail) == 0 {
			return errors.New("it has no log")
		}
		return is(v1alpha1.CheckpointCaptured, metav1.ConditionFalse, v1alpha1.ReasonDumpFailed)(c)
	})
	planted.lookIn(t, "the log in the status", fmt.Sprint(failed.Status.LogTail), "Error")
	planted.lookAtTheCluster(t, c, good.ns)
	planted.lookAtTheNodes(t, c, good.ns)
	planted.lookAtDiagnosis(t, good, pod, next)
}

// lookAtTheCluster looks at objects, events, logs, and at what a person gathers for a report.
func (all canaries) lookAtTheCluster(t *testing.T, c *lab.Cluster, ns string) {
	t.Helper()
	kinds := "events,pods,nodes,namespaces,configmaps,checkpoints,restorepolicies,checkpointpolicies,checkpointstoragelocations"
	all.lookIn(t, "an object", c.Run(t, "kubectl", "--", "get", kinds, "-A", "-o", "yaml"), ns)
	logs := func(namespace, name string) string {
		return c.Run(t, "kubectl", "--", "logs", "-n", namespace, "-l", "app.kubernetes.io/name="+name, "--tail=-1")
	}
	all.lookIn(t, "a log of the manager", logs(install.Namespace, install.Manager), "")
	all.lookIn(t, "a log of an agent", logs(install.AgentNamespace, install.Agent), ns)
	path := filepath.Join(t.TempDir(), "bug.tar.gz")
	if output, err := checkpointCommand(t, c, "", "bug", "--file", path); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for archive := tar.NewReader(unpacked); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		all.lookIn(t, "the bundle's "+header.Name, string(text)+"\n", "")
	}
}

// lookAtTheNodes looks at all that we and the container runtime write there but for the memory and files of programs themselves. What is in the folders is
// for root alone, and is looked at all the same: people copy such files into reports.
func (all canaries) lookAtTheNodes(t *testing.T, c *lab.Cluster, ns string) {
	t.Helper()
	const written = `
find /run/checkpoint -type f -size -4M -exec cat {} + 2> /dev/null || true
find /var/lib/checkpoint -type f \( -name '*.log' -o -name '*.json' \) -size -4M -exec cat {} + 2> /dev/null || true`
	texts := map[string]string{}
	for _, node := range []string{"worker-1", "worker-2"} {
		texts["what is written on the nodes"] += c.OnNode(t, node, written)
		for _, component := range []string{"containerd", "kubelet"} {
			texts["the logs of "+component] += c.Run(t, "logs", "--node="+node, component)
		}
	}
	for place, text := range texts {
		all.lookIn(t, place, text, ns)
	}
}

// lookAtDiagnosis looks at the logs that are sent to the bucket, as they are and unpacked.
func (all canaries) lookAtDiagnosis(t *testing.T, w *workload, captured, restored *corev1.Pod) {
	t.Helper()
	folder := func(pod *corev1.Pod, which string) string {
		return fmt.Sprintf("%s_%s_%.8s_%s", w.ns, pod.Name, pod.UID, which)
	}
	for _, name := range []string{folder(captured, "1"), folder(restored, "restore")} {
		var sent []install.Object
		lab.Eventually(t, 2*time.Minute, "the logs of "+name+" are sent", func() (err error) {
			if sent, err = operator.Objects(t.Context(), keys.DiagnosisRoot+"/"+w.ns+"/"+name); err == nil && len(sent) == 0 {
				err = errors.New("the bucket has none")
			}
			return err
		})
		for _, object := range sent {
			data, err := operator.Content(t.Context(), object.Key)
			if err != nil {
				t.Fatal(err)
			}
			if packed, err := gzip.NewReader(strings.NewReader(string(data))); err == nil {
				if data, err = io.ReadAll(packed); err != nil {
					t.Fatal(err)
				}
			}
			all.lookIn(t, "object "+object.Key, string(data), "")
		}
	}
}
