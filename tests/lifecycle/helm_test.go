package lifecycle

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// TestTheChartIsInstalledUpgradedAndRemoved, with what Helm does: the certificate that the manager made survives an upgrade, and so does what others have set.
func TestTheChartIsInstalledUpgradedAndRemoved(t *testing.T) {
	c := cluster(t)
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	program := strings.TrimSpace(made(t, root, "helm"))
	made(t, root, "images")
	for _, image := range []string{install.Manager, install.Agent} {
		c.Run(t, "image", "load", filepath.Join(root, "build/images", image+".tar"))
	}
	s3 := c.Status(t).S3
	c.Run(t, "bucket", install.Bucket)
	values := filepath.Join(t.TempDir(), "values.yaml")
	text := "manager: {image: {tag: dev}}\nagent: {image: {tag: dev}}\nlocation: {spec: {endpoint: 'http://" + s3.InCluster + "', bucket: " + install.Bucket +
		", role: Default, credentials: {secretName: " + install.Credentials + "}}}\n"
	if c.Status(t).PrlimitShim {
		text = strings.Replace(text, "agent: {", "agent: {extraArgs: [--criu-directory=/usr/local/sbin], ", 1)
	}
	if err := os.WriteFile(values, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	helm := func(args ...string) string {
		t.Helper()
		return helmOf(t, program, c, args...)
	}
	chart := filepath.Join(root, "manifests/chart")
	helm("install", "checkpoint", chart, "-n", install.Namespace, "--create-namespace", "-f", values)
	kubectl(t, c, "create", "secret", "generic", install.Credentials, "-n", install.Namespace,
		"--from-literal=accessKeyID="+s3.AccessKey, "--from-literal=secretAccessKey="+s3.SecretKey)
	operator, err := install.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := operator.AwaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := counting(t, c, "chart", 2)
	kubectl(t, c, "patch", "configmap", "checkpoint-operator", "-n", install.Namespace, "--type=merge", "-p", `{"data":{"namespaceQuota":"5Gi"}}`)
	certificate := kubectl(t, c, "get", "secret", "checkpoint-webhook-cert", "-n", install.Namespace, "-o", "jsonpath={.data}")

	helm("upgrade", "checkpoint", chart, "-n", install.Namespace, "-f", values, "--set", "agent.uploadsAtOnce=3")
	if now := kubectl(t, c, "get", "secret", "checkpoint-webhook-cert", "-n", install.Namespace, "-o", "jsonpath={.data}"); now != certificate || now == "" {
		t.Error("the upgrade has changed the certificate")
	}
	if quota := kubectl(t, c, "get", "configmap", "checkpoint-operator", "-n", install.Namespace, "-o", "jsonpath={.data.namespaceQuota}"); quota != "5Gi" {
		t.Errorf("the quota that somebody set is %q", quota)
	}
	if err := operator.AwaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := map[string]int{}
	for _, pod := range w.pods(t) {
		before[pod] = w.count(t, pod)
	}
	kubectl(t, c, "delete", "pod", "-n", w.namespace, w.pods(t)[0])
	w.allGoOn(t, 2, before)

	kubectl(t, c, "delete", "namespace", w.namespace)
	helm("uninstall", "checkpoint", "-n", install.Namespace, "--timeout", "10m")
	if kept := kubectl(t, c, "get", "crds", "-o", "name"); !strings.Contains(kept, "checkpoints.checkpoint.memverge.ai") {
		t.Error("Checkpoints went with the release, and nobody has asked for that")
	}
	kubectl(t, c, "delete", "crds", "-l", "app.kubernetes.io/part-of=transparent-checkpoint")
	kubectl(t, c, "delete", "namespace", install.Namespace)
	eventually(t, time.Minute, "Helm has no release any more", func() string { return helm("list", "-A", "--short") })
	nothingIsLeft(t, c)
}

// made has make make something, and returns what it says.
func made(t *testing.T, root, target string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "make", "--silent", "--no-print-directory", target)
	command.Dir, command.Env = root, install.WithoutMake(os.Environ())
	output, err := command.Output()
	if err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, output)
	}
	return string(output)
}

// helmOf runs Helm on a cluster and returns what it prints; a failure ends the test.
func helmOf(t *testing.T, program string, c *lab.Cluster, args ...string) string {
	t.Helper()
	home := t.TempDir() // for its caches
	command := exec.CommandContext(t.Context(), program, append(args, "--kubeconfig", strings.TrimSpace(c.Run(t, "kubeconfig")))...)
	command.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	output, err := command.CombinedOutput()
	t.Logf("helm %s:\n%s", strings.Join(args, " "), output)
	if err != nil {
		t.Fatal(err)
	}
	return string(output)
}
