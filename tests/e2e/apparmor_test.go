package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// ownProfile is a profile that forbids a container of the tests to write to one file.
const ownProfile = `#include <tunables/global>
profile checkpoint-e2e flags=(attach_disconnected,mediate_deleted) {
  network,
  capability,
  file,
  signal,
  ptrace peer=checkpoint-e2e,
  umount,
  deny /scratch/forbidden w,
}
`

// A restored program is confined by the profile that confined it before: the container runtime's, or one that the node has.
func TestAppArmorProfilesComeBack(t *testing.T) {
	c := labelled(t)
	nodes := nodesWithAppArmor(t, c)
	for _, node := range nodes {
		c.OnNode(t, node, "printf '%s' '"+ownProfile+"' > /tmp/checkpoint-e2e.profile && apparmor_parser -r /tmp/checkpoint-e2e.profile")
	}
	for what, test := range map[string]struct {
		profile corev1.AppArmorProfile
		want    string
	}{
		"the runtime's": {corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}, "cri-containerd.apparmor.d (enforce)"},
		"one of the node": {
			corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: new("checkpoint-e2e")}, "checkpoint-e2e (enforce)",
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) {
				template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: &test.profile}
			})
			confined := func(pod *corev1.Pod) {
				t.Helper()
				if got := strings.TrimSpace(say(t, c, pod, "file/proc/self/attr/current")); got != test.want {
					t.Errorf("pod %s on %s is confined by %q; it has to be by %q", pod.Name, pod.Spec.NodeName, got, test.want)
				}
				put(t, c, pod, "/scratch/allowed", "x")
				if test.profile.LocalhostProfile != nil {
					mayNotWrite(t, c, pod, "/scratch/forbidden")
				}
			}
			w.countOf(t, pod)
			confined(pod)
			confined(w.again(t, pod))
		})
	}
}

// nodesWithAppArmor skips the test unless the kernels of all nodes have AppArmor.
func nodesWithAppArmor(t *testing.T, c *lab.Cluster) (names []string) {
	t.Helper()
	for _, node := range c.Status(t).Nodes {
		names = append(names, node.Name)
	}
	slices.Sort(names)
	for _, node := range names {
		if strings.TrimSpace(c.OnNode(t, node, "cat /sys/module/apparmor/parameters/enabled || true")) != "Y" {
			t.Skipf("the kernel of node %s has no AppArmor", node)
		}
	}
	return names
}

// mayNotWrite fails the test if a program of a pod can write to a file.
func mayNotWrite(t *testing.T, c *lab.Cluster, pod *corev1.Pod, path string) {
	t.Helper()
	body, err := c.Client.CoreV1().RESTClient().Verb(http.MethodPut).Namespace(pod.Namespace).Resource("pods").
		Name(pod.Name + ":8080").SubResource("proxy").Suffix("file" + path).Body([]byte("x")).DoRaw(t.Context())
	if said := fmt.Sprintf("%s: %v", body, err); err == nil || !strings.Contains(said, "permission denied") {
		t.Errorf("pod %s writes to %s: %s", pod.Name, path, said)
	}
}
