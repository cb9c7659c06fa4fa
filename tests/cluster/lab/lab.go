// Package lab brings local clusters up for Go tests and drives them, always through bin/localcluster, as a person would.
package lab

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Cluster is one local cluster.
type Cluster struct {
	Name   string
	Config *rest.Config
	Client *kubernetes.Clientset
}

// Unable says why this machine cannot run a cluster, or nothing if it can. In CI there is no such excuse: a test that needs a cluster
// and has none must fail there.
func Unable() string {
	if os.Getuid() != 0 && os.Getenv("CI") == "" {
		return "a local cluster needs root"
	}
	return ""
}

// NameOr is the name of the cluster that a test package brings up: that name, unless TEST_CLUSTER says another one, as for two checkouts that are
// tested at the same time.
func NameOr(name string) string { return cmp.Or(os.Getenv("TEST_CLUSTER"), name) }

// Keeps tells whether a test package whose tests passed leaves its cluster to the next one, by TEST_KEEP: virtual machines take minutes to come up.
func Keeps() bool { return os.Getenv("TEST_KEEP") != "" }

// Root is the top of the source tree.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "tools.go")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("the working directory is not in the source tree")
}

// Localcluster runs a verb of bin/localcluster, at the top of the source tree, on the cluster of that name and returns what it printed to standard
// output. What it printed to standard error is in the error.
func Localcluster(ctx context.Context, name string, args ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, filepath.Join(root, "bin/localcluster"), append([]string{"--name=" + name}, args...)...)
	command.Dir = root
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	command.WaitDelay = 5 * time.Second // what it left running may hold its output open
	if err := command.Run(); err != nil {
		return stdout.String(), fmt.Errorf("localcluster --name=%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Up brings a cluster up and connects to it.
func Up(ctx context.Context, name string, args ...string) (*Cluster, error) {
	if _, err := Localcluster(ctx, name, append([]string{"up"}, args...)...); err != nil {
		return nil, err
	}
	return Connect(ctx, name)
}

// Connect connects to a cluster that is up.
func Connect(ctx context.Context, name string) (*Cluster, error) {
	path, err := Localcluster(ctx, name, "kubeconfig")
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", strings.TrimSpace(path))
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst, config.Timeout = 100, 200, 30*time.Second
	client, err := kubernetes.NewForConfig(config)
	return &Cluster{Name: name, Config: config, Client: client}, err
}

// Down ends the cluster and removes everything of it.
func (c *Cluster) Down(ctx context.Context) error {
	_, err := Localcluster(ctx, c.Name, "down")
	return err
}

// Run runs a verb on the cluster and returns its output; a failure ends the test.
func (c *Cluster) Run(t *testing.T, args ...string) string {
	t.Helper()
	output, err := Localcluster(t.Context(), c.Name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// OnNode runs a shell script on a node, as root there, and returns its output; a failure ends the test.
func (c *Cluster) OnNode(t *testing.T, node, script string) string {
	t.Helper()
	return c.Run(t, "node", "exec", node, "--", "sh", "-ec", script)
}

// Status is what the tests read of `localcluster status -o json`.
type Status struct {
	Running     bool
	PrlimitShim bool
	S3          struct{ Endpoint, InCluster, AccessKey, SecretKey string }
	Components  []Component
	Nodes       []struct {
		Name   string
		Ready  bool
		Init   Component
		Booted *struct {
			Components []Component
			Disk       struct{ Size, Used int64 }
		}
	}
}

// Component is a program of the cluster.
type Component struct {
	Name, State string
	PID         int
	Restarts    int
}

// Status returns the state of the cluster; a failure ends the test.
func (c *Cluster) Status(t *testing.T) Status {
	t.Helper()
	status, err := c.ReadStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// ReadStatus returns the state of the cluster.
func (c *Cluster) ReadStatus(ctx context.Context) (Status, error) {
	var status Status
	output, err := Localcluster(ctx, c.Name, "status", "-o", "json")
	if err != nil {
		return status, err
	}
	return status, json.Unmarshal([]byte(output), &status)
}

// Component returns a program by its name and its node, which is empty for the control plane.
func (s Status) Component(node, name string) (Component, bool) {
	components := s.Components
	for _, n := range s.Nodes {
		if n.Name == node && n.Booted != nil {
			components = n.Booted.Components
		}
	}
	for _, component := range components {
		if component.Name == name {
			return component, true
		}
	}
	return Component{}, false
}

// Nodes are the arguments of TEST_NODES by which a test package brings its cluster up, as --nodes=0 --vm-nodes=2; none for the usual nodes.
func Nodes() []string { return strings.Fields(os.Getenv("TEST_NODES")) }

// patienceFactor is TEST_PATIENCE: how many times longer than elsewhere tests wait on these nodes.
var patienceFactor = sync.OnceValue(func() int64 {
	factor, err := strconv.ParseInt(cmp.Or(os.Getenv("TEST_PATIENCE"), "1"), 10, 8)
	if err != nil || factor < 1 {
		panic(fmt.Sprintf("TEST_PATIENCE is %q; it may be a number from 1 on", os.Getenv("TEST_PATIENCE")))
	}
	return factor
})

// Patience is how long is waited on these nodes for what elsewhere takes that long.
func Patience(elsewhere time.Duration) time.Duration {
	return time.Duration(int64(elsewhere) * patienceFactor())
}

// AreSlow tells whether tests wait as long on the nodes as on virtual machines: what takes a processor's time is to be little there.
func AreSlow() bool { return patienceFactor() >= 4 }

// Eventually calls check until it returns nil; when it has not in that time, its last error ends the test.
func Eventually(t *testing.T, patience time.Duration, what string, check func() error) {
	t.Helper()
	patience = Patience(patience)
	began := time.Now()
	for pause := 100 * time.Millisecond; ; pause = min(pause*11/10, 500*time.Millisecond) { // looking takes processor time from what is waited for
		err := check()
		if err == nil {
			t.Logf("%s: after %s", what, time.Since(began).Round(10*time.Millisecond))
			return
		}
		if time.Since(began) > patience || t.Context().Err() != nil {
			t.Fatalf("%s: not after %s: %v", what, patience, err)
		}
		time.Sleep(pause)
	}
}
