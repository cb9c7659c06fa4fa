package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// hostileImage is the name of the program that holds what CRIU refuses, on every node.
const hostileImage = "localhost/hostile:e2e"

var hostileOnce = sync.OnceValue(func() error {
	ctx := context.Background()
	root, err := lab.Root()
	if err != nil {
		return err
	}
	binary := filepath.Join(root, "build/images/hostile")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./tests/images/hostile")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build hostile: %w: %s", err, output)
	}
	_, err = lab.Localcluster(ctx, shared.Name, "image", "build", hostileImage, "--binary="+binary)
	return err
})

// hostile is a pod whose program holds one object.
type hostile struct {
	c      *lab.Cluster
	ns     string
	pod    *corev1.Pod
	change func(*corev1.Pod)
}

// reports is the folder of the node in which a hostile program says that it got its signal.
func (h *hostile) reports() string { return "/run/hostile/" + h.ns }

func newHostile(t *testing.T, c *lab.Cluster, ns, verb string, change func(*corev1.Pod)) *hostile {
	t.Helper()
	h := &hostile{c: c, ns: ns, change: change}
	create := corev1.HostPathDirectoryOrCreate
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: verb, Labels: map[string]string{keys.CheckpointMode: keys.True}},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{corev1.LabelHostname: "worker-1"}, RestartPolicy: corev1.RestartPolicyNever,
			Volumes: []corev1.Volume{{Name: "report", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: h.reports(), Type: &create}}}},
			Containers: []corev1.Container{{
				Name: "app", Image: hostileImage, ImagePullPolicy: corev1.PullNever, Args: []string{"--report=/report", verb},
				VolumeMounts: []corev1.VolumeMount{{Name: "report", MountPath: "/report"}},
			}},
		},
	}
	if change != nil {
		change(pod)
	}
	made, err := c.Client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.pod = made
	return h
}

func (h *hostile) now(t *testing.T) *corev1.Pod {
	t.Helper()
	pod, err := h.c.Client.CoreV1().Pods(h.ns).Get(t.Context(), h.pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// says waits until the pod's condition Checkpointable has a reason, and returns its message.
func (h *hostile) says(t *testing.T, patience time.Duration, reason string) string {
	t.Helper()
	var message string
	lab.Eventually(t, patience, fmt.Sprintf("pod %s says %s", h.pod.Name, reason), func() error {
		conditions := h.now(t).Status.Conditions
		i := slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == keys.Checkpointable })
		if i < 0 {
			return fmt.Errorf("its conditions are %+v", conditions)
		}
		c := conditions[i]
		isProtected := reason == keys.CheckpointableProtected
		if c.Reason != reason || (c.Status == corev1.ConditionTrue) != isProtected {
			return fmt.Errorf("it says %s %s: %s", c.Status, c.Reason, c.Message)
		}
		message = c.Message
		return nil
	})
	return message
}

// holds waits until the program holds its object, and skips the test where the kernel does not give that.
func (h *hostile) holds(t *testing.T) {
	t.Helper()
	lab.Eventually(t, podPatience, h.pod.Name+" holds it", func() error {
		if now := h.now(t); now.Status.Phase == corev1.PodPending {
			return fmt.Errorf("it is %s: %+v", now.Status.Phase, now.Status.ContainerStatuses)
		}
		log, err := h.c.Client.CoreV1().Pods(h.ns).GetLogs(h.pod.Name, &corev1.PodLogOptions{Container: "app"}).DoRaw(t.Context())
		switch text := string(log); {
		case err != nil:
			return err
		case strings.HasPrefix(text, "cannot"):
			t.Skip(text)
		case !strings.HasPrefix(text, "holds"):
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
}

// captureFails deletes the pod and returns the Checkpoint of its capture, once that has failed.
func (h *hostile) captureFails(t *testing.T) *v1alpha1.Checkpoint {
	t.Helper()
	if err := h.c.Client.CoreV1().Pods(h.ns).Delete(t.Context(), h.pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w := &workload{c: h.c, ns: h.ns}
	return w.checkpoint(t, h.pod, "says that it failed", is(v1alpha1.CheckpointCaptured, metav1.ConditionFalse, "DumpFailed"))
}

func privileged(pod *corev1.Pod) {
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
}

func allowIOUring(pod *corev1.Pod) {
	pod.Annotations = map[string]string{keys.IOUring: keys.IOUringAllow}
}

// What CRIU refuses is said soon after the program does it, and not first when the pod is deleted. That it is no false alarm shows when the pod
// is deleted all the same: the capture fails by CRIU's own word, and the program gets its signal.
func TestWhatCannotBeDumpedIsSaidEarly(t *testing.T) {
	c := labelled(t)
	if err := hostileOnce(); err != nil {
		t.Fatal(err)
	}
	ns, pods := namespace(t, c), map[string]*hostile{}
	cases := map[string]struct {
		change       func(*corev1.Pod)
		reason, criu string
	}{
		"io-uring":            {allowIOUring, keys.UnprotectedIOUring, ""},
		"perf-event":          {privileged, keys.UnprotectedDescriptor, "anon_inode:[perf_event]"},
		"packet-pipe":         {nil, keys.UnprotectedDescriptor, "packetized mode for pipes"},
		"fuse":                {privileged, keys.UnprotectedDeviceInUse, "chr 10:229"},
		"vsock":               {nil, keys.UnprotectedSocket, "Unknown socket collected (family 40)"},
		"udp-corked":          {nil, keys.UnprotectedSocket, "corked dgram socket"},
		"netlink-unread":      {nil, keys.UnprotectedUnread, "The socket has data to read"},
		"unix-data":           {nil, keys.UnprotectedUnread, "Non-empty write queue on an in-flight socket"},
		"unix-closed":         {nil, keys.UnprotectedUnread, "Found a closed in-flight socket"},
		"traced":              {nil, keys.UnprotectedTraced, ""},
		"dead-leader":         {nil, keys.UnprotectedDeadLeader, "Zombies with threads"},
		"child-pid-namespace": {privileged, keys.UnprotectedNestedNamespace, "nested pid namespace"},
		"mount-ramfs":         {privileged, keys.UnprotectedMount, "unsupported"},
		"message-queue":       {nil, keys.UnprotectedMessageQueue, "Can't lookup mount"},
		"unix-outside":        {withServer, keys.UnprotectedOutsideSocket, "External socket"},
		"deleted-large":       {nil, keys.UnprotectedLargeDeletedFile, "Can't dump ghost file"},
	}
	for verb, test := range cases { // all at once, as each has to wait a little
		pods[verb] = newHostile(t, c, ns, verb, test.change)
	}
	for verb, test := range cases {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			h := pods[verb]
			h.holds(t)
			t.Log(h.says(t, 20*time.Second, test.reason))
			failed := h.captureFails(t)
			for _, condition := range failed.Status.Conditions {
				if condition.Type == v1alpha1.CheckpointCaptured {
					has(t, condition.Message, "Error (")
					has(t, condition.Message, test.criu)
				}
			}
			lab.Eventually(t, 20*time.Second, verb+" got its signal", func() error {
				_, err := lab.Localcluster(t.Context(), c.Name, "node", "exec", "worker-1", "--", "test", "-e", h.reports()+"/"+verb+".terminated")
				return err
			})
		})
	}
}

// withServer adds a container that serves the unix socket to which the first one connects.
func withServer(pod *corev1.Pod) {
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "between", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	app := &pod.Spec.Containers[0]
	app.VolumeMounts = append(app.VolumeMounts, corev1.VolumeMount{Name: "between", MountPath: "/outside"})
	server := app.DeepCopy()
	server.Name, server.Args = "server", []string{"--report=/report", "unix-serve"}
	pod.Spec.Containers = append(pod.Spec.Containers, *server)
}

// When the program lets go of it, the pod is protected again.
func TestAFindingGoesWithItsReason(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	if err := hostileOnce(); err != nil {
		t.Fatal(err)
	}
	h := newHostile(t, c, namespace(t, c), "packet-pipe", nil)
	h.holds(t)
	has(t, h.says(t, 20*time.Second, keys.UnprotectedDescriptor), "process 1 (hostile) holds a pipe of packets")
	id := strings.TrimPrefix(h.now(t).Status.ContainerStatuses[0].ContainerID, "containerd://")
	c.OnNode(t, "worker-1", "kill -USR1 $(cat /run/containerd/io.containerd.runtime.v2.task/k8s.io/"+id+"/init.pid)")
	h.says(t, 40*time.Second, keys.CheckpointableProtected)
	w := &workload{c: c, ns: h.ns}
	text := w.events(t, h.pod)
	has(t, text, "Warning "+keys.UnprotectedDescriptor)
	has(t, text, "Normal "+keys.CheckpointableProtected)
}

// What the spec shows is said at once, and the pod runs as if it had no label.
func TestAPodThatSharesItsNodesNetworkIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	if err := hostileOnce(); err != nil {
		t.Fatal(err)
	}
	h := newHostile(t, c, namespace(t, c), "nothing", func(pod *corev1.Pod) { pod.Spec.HostNetwork = true })
	has(t, h.says(t, 20*time.Second, keys.UnprotectedHostNetwork), "hostNetwork")
	if class := h.now(t).Spec.RuntimeClassName; class != nil {
		t.Errorf("it has the RuntimeClass %s", *class)
	}
}
