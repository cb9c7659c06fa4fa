package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// awaitReady waits until a pod can run on every node: the API answers, every node is Ready and has the images, and the controllers
// have made the default service account.
func (c *command) awaitReady(ctx context.Context, cluster spec.Cluster, state *spec.State) error {
	patience := readyPatience
	if state.HasMachines() {
		patience = machinesPatience
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not ready after %s", patience))
	defer cancel()
	client, err := newClient(cluster)
	if err != nil {
		return err
	}
	steps := []struct {
		name string
		done func(context.Context) error
	}{
		{"API server", func(ctx context.Context) error {
			body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
			return unready(body, err)
		}},
		{"images on the nodes", func(ctx context.Context) error { return c.importMissing(ctx, cluster, state) }},
		{"nodes", func(ctx context.Context) error { return allReady(ctx, client, state) }},
		{"controllers", func(ctx context.Context) error {
			_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
			return err
		}},
	}
	for _, step := range steps {
		if err := c.await(ctx, step.name, step.done); err != nil {
			return err
		}
	}
	return nil
}

// unready names, of the many checks behind /readyz, those that failed.
func unready(body []byte, err error) error {
	var failed []string
	for line := range strings.Lines(string(body)) {
		if check, ok := strings.CutPrefix(line, "[-]"); ok {
			name, _, _ := strings.Cut(check, " ")
			failed = append(failed, name)
		}
	}
	if err == nil || len(failed) == 0 {
		return err
	}
	return errors.New("waiting for " + strings.Join(failed, ", "))
}

func (c *command) await(ctx context.Context, name string, done func(context.Context) error) error {
	began := time.Now()
	said := began
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Minute)
		err := done(attempt)
		cancel()
		if err == nil {
			c.log.Printf("%s: ready after %s", name, time.Since(began).Round(100*time.Millisecond))
			return nil
		}
		if time.Since(said) > 15*time.Second {
			said = time.Now()
			c.log.Printf("%s: not yet: %v", name, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w (see `localcluster status` and `localcluster logs`)", name, context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func newClient(cluster spec.Cluster) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", cluster.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.Timeout = 5 * time.Second
	return kubernetes.NewForConfig(config)
}

func allReady(ctx context.Context, client kubernetes.Interface, state *spec.State) error {
	ready, err := readyNodes(ctx, client)
	if err != nil {
		return err
	}
	var missing []string
	for _, n := range state.Nodes {
		if !ready[n.Name] {
			missing = append(missing, n.Name)
		}
	}
	if len(missing) > 0 {
		return errors.New("not Ready: " + strings.Join(missing, ", "))
	}
	return nil
}

func readyNodes(ctx context.Context, client kubernetes.Interface) (map[string]bool, error) {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	ready := map[string]bool{}
	for _, n := range nodes.Items {
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				ready[n.Name] = condition.Status == corev1.ConditionTrue
			}
		}
	}
	return ready, nil
}
