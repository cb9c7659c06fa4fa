package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

const podPatience = time.Minute

// namespace makes a namespace that goes with the test.
func namespace(t *testing.T, c *lab.Cluster) string {
	t.Helper()
	wanted := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	made, err := c.Client.CoreV1().Namespaces().Create(t.Context(), wanted, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		zero := int64(0)
		err := c.Client.CoreV1().Namespaces().Delete(context.Background(), made.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	lab.Eventually(t, podPatience, "service account of the namespace", func() error {
		_, err := c.Client.CoreV1().ServiceAccounts(made.Name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return made.Name
}

// serving is the spec of a pod that counts and answers; no grace, so that a test's end is quick.
func serving() corev1.PodSpec {
	zero := int64(0)
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: &zero,
		Containers:                    []corev1.Container{{Name: "app", Image: image, ImagePullPolicy: corev1.PullNever, Args: []string{"serve"}}},
	}
}

// start creates a pod and waits until it runs.
func start(t *testing.T, c *lab.Cluster, ns, name string, spec corev1.PodSpec) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: spec}
	if _, err := c.Client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return awaitRunning(t, c, ns, name)
}

func awaitRunning(t *testing.T, c *lab.Cluster, ns, name string) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	lab.Eventually(t, podPatience, "pod "+name+" runs", func() (err error) {
		pod, err = c.Client.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && (pod.Status.Phase != corev1.PodRunning || pod.Status.PodIP == "") {
			err = fmt.Errorf("its phase is %q, its containers are %+v", pod.Status.Phase, pod.Status.ContainerStatuses)
		}
		return err
	})
	return pod
}

// ask sends a request to a pod through the API server and the node's kubelet, as any caller outside the cluster can.
func ask(ctx context.Context, c *lab.Cluster, pod *corev1.Pod, path string, query url.Values) (string, error) {
	request := c.Client.CoreV1().RESTClient().Verb(http.MethodGet).Namespace(pod.Namespace).Resource("pods").
		Name(pod.Name + ":8080").SubResource("proxy").Suffix(path)
	for key := range query {
		request = request.Param(key, query.Get(key))
	}
	body, err := request.DoRaw(ctx)
	if err != nil {
		return "", fmt.Errorf("ask pod %s for %s: %w: %s", pod.Name, path, err, body)
	}
	return string(body), nil
}

// fetches has a pod get a URL.
func fetches(t *testing.T, c *lab.Cluster, pod *corev1.Pod, target string) string {
	t.Helper()
	var body string
	lab.Eventually(t, podPatience, pod.Name+" gets "+target, func() (err error) {
		body, err = ask(t.Context(), c, pod, "fetch", url.Values{"url": {target}})
		return err
	})
	return body
}

func onNode(spec corev1.PodSpec, node string) corev1.PodSpec {
	spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	return spec
}

func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("it says %q, which lacks %q", text, part)
		}
	}
}
