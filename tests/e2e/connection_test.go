package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/criu"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// twoRequests runs on a node: it asks a pod by HTTP, and once the file says so a second time by the same connection.
const twoRequests = `exec 3<>/dev/tcp/%[1]s/8080
ask() { printf 'GET /count HTTP/1.1\r\nHost: pod\r\n%%s\r\n' "$1" >&3; }
ask ''
read -r -t 5 status <&3 && echo "first: $status"
touch /tmp/asked-%[1]s
for i in $(seq 600); do
  [ -e /tmp/again-%[1]s ] && break
  read -r -t 0.1 line <&3
  code=$?
  [ $code = 0 ] || [ $code -gt 128 ] || { echo "the peer is gone"; exit 0; }
done
ask $'Connection: close\r\n'
while read -r -t 20 line <&3; do case $line in HTTP*) echo "second: $line";; esac; done
echo end`

// outside is a connection from the other node to a pod.
type outside struct {
	c      *lab.Cluster
	pod    *corev1.Pod
	answer chan string
}

func connect(t *testing.T, c *lab.Cluster, pod *corev1.Pod) *outside {
	t.Helper()
	o := &outside{c: c, pod: pod, answer: make(chan string, 1)}
	go func() {
		script := fmt.Sprintf(twoRequests, pod.Status.PodIP)
		said, err := lab.Localcluster(context.WithoutCancel(t.Context()), c.Name, "node", "exec", "worker-2", "--", "bash", "-c", script)
		o.answer <- fmt.Sprint(said, err)
	}()
	lab.Eventually(t, 20*time.Second, "the first request is answered", func() error {
		_, err := lab.Localcluster(t.Context(), c.Name, "node", "exec", "worker-2", "--", "test", "-e", "/tmp/asked-"+pod.Status.PodIP)
		return err
	})
	return o
}

// said returns what the connection saw until its end.
func (o *outside) said(t *testing.T) string {
	t.Helper()
	select {
	case said := <-o.answer:
		return said
	case <-time.After(time.Minute):
		t.Fatal("the connection hangs")
		return ""
	}
}

func onWorker1(template *corev1.PodTemplateSpec) {
	template.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "worker-1"}
}

func TestAConnectionToTheOutsideIsReset(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, onWorker1)
	o := connect(t, c, pod)
	before := w.countOf(t, pod)
	w.deletePod(t, pod)
	if said := o.said(t); !strings.Contains(said, "the peer is gone") {
		t.Errorf("the other end saw %q", said)
	}
	w.goesOn(t, w.running(t, pod), before, nil)
}

func TestAConnectionToTheOutsideGoesOnWhereThePodKeepsItsAddress(t *testing.T) {
	c := labelled(t)
	w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
		onWorker1(template)
		template.Annotations = map[string]string{keys.CheckpointOptions: criu.TCPEstablished}
	})
	o := connect(t, c, pod)
	before := w.countOf(t, pod)
	if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(t, pod)
	// The node's IPAM gives the next address after the last one: have that be the same.
	last := netip.MustParseAddr(pod.Status.PodIP).Prev()
	c.OnNode(t, "worker-1", fmt.Sprintf("printf %s > /run/cni/networks/pods/last_reserved_ip.0", last))
	w.create(t)
	next := w.running(t, pod)
	if next.Status.PodIP != pod.Status.PodIP {
		t.Fatalf("the new pod has the address %s, not %s", next.Status.PodIP, pod.Status.PodIP)
	}
	w.goesOn(t, next, before, nil)
	c.OnNode(t, "worker-2", "touch /tmp/again-"+pod.Status.PodIP)
	if said := o.said(t); !strings.Contains(said, "second: HTTP/1.1 200 OK") {
		t.Errorf("the other end saw %q", said)
	}
}
