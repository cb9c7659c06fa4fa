package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// Pod is a pod of a program, as it was when it began to run.
type Pod struct {
	*corev1.Pod
	// Generation counts the restores of the program: 0 is the first pod.
	Generation int
	cluster    *lab.Cluster
}

// Get asks a port of the pod by HTTP, through the API server, and returns the body. Another status than 200 is an error with the body.
func (p *Pod) Get(ctx context.Context, port int, path string) (string, error) {
	path, query, _ := strings.Cut(path, "?")
	request := p.cluster.Client.CoreV1().RESTClient().Verb(http.MethodGet).Namespace(p.Namespace).Resource("pods").
		Name(p.Name + ":" + strconv.Itoa(port)).SubResource("proxy").Suffix(path)
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			request = request.Param(key, value)
		}
	}
	body, err := request.DoRaw(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for %s: %w: %s", path, err, body)
	}
	return string(body), nil
}

// Exec runs a command in a container of the pod and returns its standard output, without spaces around it.
func (p *Pod) Exec(ctx context.Context, container string, words ...string) (string, error) {
	args := append([]string{"kubectl", "--", "exec", "-n", p.Namespace, p.Name, "-c", container, "--"}, words...)
	output, err := lab.Localcluster(ctx, p.cluster.Name, args...)
	return strings.TrimSpace(output), err
}

// Shell runs a script in a container of the pod, which must have a shell.
func (p *Pod) Shell(ctx context.Context, container, script string) (string, error) {
	return p.Exec(ctx, container, "sh", "-ec", script)
}

// Want returns an error unless what was got is what was wanted.
func Want(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%s is %q; it was %q", what, got, want)
	}
	return nil
}
