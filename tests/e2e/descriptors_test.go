package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// onFirst runs a script on the node for a pod's first process, $p.
func (h *hostile) onFirst(t *testing.T, script string) string {
	t.Helper()
	id := strings.TrimPrefix(h.now(t).Status.ContainerStatuses[0].ContainerID, "containerd://")
	return h.c.OnNode(t, "worker-1", "p=$(cat /run/containerd/io.containerd.runtime.v2.task/k8s.io/"+id+"/init.pid); "+script)
}

// again deletes the pod, makes it again, and waits until the new one says that it goes on and runs.
func (h *hostile) again(t *testing.T) *hostile {
	t.Helper()
	if err := h.c.Client.CoreV1().Pods(h.ns).Delete(t.Context(), h.pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w := &workload{c: h.c, ns: h.ns}
	w.awaitGone(t, h.pod)
	next := newHostile(t, h.c, h.ns, h.pod.Name, h.change)
	if said := w.restored(t, next.pod); said.Status != corev1.ConditionTrue {
		t.Fatalf("it says %+v", said)
	}
	lab.Eventually(t, podPatience, "the new pod runs", func() error {
		if now := next.now(t); now.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("it is %s", now.Status.Phase)
		}
		return nil
	})
	return next
}

// What a process has open of /proc is the same after a restore: its own folder, one of a child, and those of a process that has ended since.
func TestOpenFilesOfProcGoOn(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	if err := hostileOnce(); err != nil {
		t.Fatal(err)
	}
	ns := namespace(t, c)
	for verb, want := range map[string]string{
		"proc-self": "/proc/1\n", "proc-self-task": "/proc/1/task\n", "proc-child": "", "proc-child-file": "/stat\n", "proc-ended": " (deleted)\n",
		"proc-ended-file": "/stat\n", "proc-ended-folder": "/task\n",
	} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t, c, ns, verb, nil)
			h.holds(t)
			const open = "for fd in /proc/$p/fd/*; do readlink $fd; done | grep /proc/"
			before := h.onFirst(t, open)
			if !strings.HasSuffix(before, want) {
				t.Fatalf("it has %q open, want …%q", before, want)
			}
			if diff := cmp.Diff(before, h.again(t).onFirst(t, open)); diff != "" {
				t.Errorf("(-captured +restored):\n%s", diff)
			}
		})
	}
}

// CRIU does not know that an eventfd is a semaphore. The pod says so while it runs, and is captured all the same.
func TestASemaphoreComesBackAsACounter(t *testing.T) {
	t.Parallel()
	c := labelled(t)
	if err := hostileOnce(); err != nil {
		t.Fatal(err)
	}
	h := newHostile(t, c, namespace(t, c), "eventfd-semaphore", nil)
	h.holds(t)
	lab.Eventually(t, 20*time.Second, "the pod says that it comes back changed", func() error {
		for _, condition := range h.now(t).Status.Conditions {
			if condition.Type == keys.Checkpointable && condition.Status == corev1.ConditionTrue && condition.Reason == keys.CheckpointableChanged {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v", h.now(t).Status.Conditions)
	})
	w := &workload{c: c, ns: h.ns}
	w.tells(t, h.pod, "Warning "+keys.CheckpointableChanged+": its state is captured when it is terminated, but not all of it comes back as it was")
	const says = "grep -hE '^eventfd-(count|semaphore):' /proc/$p/fdinfo/*"
	if got := h.onFirst(t, says); !strings.Contains(got, "eventfd-semaphore: 1") {
		t.Fatalf("it says %q", got)
	}
	if got := h.again(t).onFirst(t, says); !strings.Contains(got, "eventfd-semaphore: 0") || !strings.Contains(got, "eventfd-count:                3") {
		t.Errorf("restored it says %q; when it is a semaphore, the probe need not warn", got)
	}
}
