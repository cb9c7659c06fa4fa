package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// part is one of the two parts of the operator whose pods can be asked.
type part struct {
	// name is that in the label app.kubernetes.io/name of its pods, container their container, and program what that runs.
	name, container, program string
	// reaches is what only its pods reach.
	reaches string
}

var (
	managerPart = part{"checkpoint-manager", "manager", "/manager", "the buckets"}
	agentPart   = part{"checkpoint-agent", "agent", "/agent", "the node"}
)

// namespaceOf is the one in which the pods of a part are.
func (c *cli) namespaceOf(p part) string {
	if p == agentPart {
		return c.agentNamespace
	}
	return c.operatorNamespace
}

// pods are those of a part.
func (c *cli) podsOf(ctx context.Context, k client.Client, p part) ([]corev1.Pod, error) {
	all := &corev1.PodList{}
	err := k.List(ctx, all, client.InNamespace(c.namespaceOf(p)), client.MatchingLabels{"app.kubernetes.io/name": p.name})
	return all.Items, err
}

// onePodOf returns a pod of a part that is ready, on that node or, without one, on any.
func (c *cli) onePodOf(ctx context.Context, k client.Client, p part, node string) (*corev1.Pod, error) {
	all, err := c.podsOf(ctx, k, p)
	if err != nil {
		return nil, fmt.Errorf("%s is reached by the pods of %s in namespace %s alone: %w", p.reaches, p.name, c.namespaceOf(p), explained(err))
	}
	for i := range all {
		if pod := &all[i]; (node == "" || pod.Spec.NodeName == node) && isReady(pod) {
			return pod, nil
		}
	}
	where := ""
	if node != "" {
		where = " on node " + node
	}
	return nil, fmt.Errorf("no pod of %s is ready in namespace %s%s: kubectl checkpoint doctor", p.name, c.namespaceOf(p), where)
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && pod.DeletionTimestamp.IsZero()
		}
	}
	return false
}

// mayEnter says which right the user lacks to ask the pods of a part; nil where it is none.
func (c *cli) mayEnter(ctx context.Context, k client.Client, p part) error {
	namespace := c.namespaceOf(p)
	allowed, err := may(ctx, k, authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "create", Resource: "pods", Subresource: "exec"})
	if err != nil {
		return err
	}
	if !allowed {
		return fmt.Errorf("only the pods of %s reach %s, and you have no right to run something in them: "+
			"that is the verb create of pods/exec in namespace %s (docs/kubectl-checkpoint.md)", p.name, p.reaches, namespace)
	}
	return nil
}

// may tells whether the user may do something.
func may(ctx context.Context, k client.Client, what authorizationv1.ResourceAttributes) (bool, error) {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &what}}
	err := k.Create(ctx, review)
	return review.Status.Allowed, err
}

// inspectWords is the command that asks a pod: its own program with its own arguments, by which that knows how it was installed.
func inspectWords(pod *corev1.Pod, p part, words []string) []string {
	program, own := p.program, []string(nil)
	for _, c := range pod.Spec.Containers {
		if c.Name != p.container {
			continue
		}
		if len(c.Command) > 0 {
			program, own = c.Command[0], c.Command[1:]
		}
		own = append(append([]string{}, own...), c.Args...)
	}
	return append(append([]string{program, "inspect"}, own...), words...)
}

// inside asks a pod of the operator, and streams what it answers. What it says when it does not succeed is the error.
func (c *cli) inside(ctx context.Context, pod *corev1.Pod, p part, out, errOut io.Writer, words ...string) error {
	var said bytes.Buffer
	if errOut == nil {
		errOut = &said
	} else {
		errOut = io.MultiWriter(errOut, &said)
	}
	run := c.run
	if run == nil {
		run = c.execute
	}
	err := run(ctx, pod, p.container, inspectWords(pod, p, words), out, errOut)
	if ended := (exec.CodeExitError{}); errors.As(err, &ended) {
		if text := lastWords(said.String()); text != "" {
			return errors.New(text)
		}
	}
	if err != nil {
		return fmt.Errorf("ask pod %s in namespace %s: %w", pod.Name, pod.Namespace, err)
	}
	return nil
}

// lastWords is what a program said at its end.
func lastWords(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}

// answer asks a pod for JSON.
func (c *cli) answer(ctx context.Context, pod *corev1.Pod, p part, into any, errOut io.Writer, words ...string) error {
	var out bytes.Buffer
	if err := c.inside(ctx, pod, p, &out, errOut, words...); err != nil {
		return err
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		return fmt.Errorf("the answer of pod %s, which may be of another version: %w", pod.Name, err)
	}
	return nil
}

// execute runs a command in a container, over a websocket, or in the older way where something between does not let that through.
func (c *cli) execute(ctx context.Context, pod *corev1.Pod, container string, words []string, out, errOut io.Writer) error {
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return err
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	request := set.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: words, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	older, err := remotecommand.NewSPDYExecutor(config, "POST", request.URL())
	if err != nil {
		return err
	}
	newer, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewFallbackExecutor(newer, older, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: out, Stderr: errOut})
}

// askManager asks a manager for JSON about the buckets.
func (c *cli) askManager(ctx context.Context, k client.Client, into any, errOut io.Writer, words ...string) error {
	if err := c.mayEnter(ctx, k, managerPart); err != nil {
		return err
	}
	pod, err := c.onePodOf(ctx, k, managerPart, "")
	if err != nil {
		return err
	}
	return c.answer(ctx, pod, managerPart, into, errOut, words...)
}
