package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// TestCheckpointAndRestoreByHand does on a node, with runc alone, what the operator will do: pause, checkpoint, restore. The pod must go on
// answering, and its count must go on: after a checkpoint that leaves it running, and after one that ends its process.
func TestCheckpointAndRestoreByHand(t *testing.T) {
	for name, user := range map[string]int64{"root": 0, "non-root": 1000} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t)
			ns := namespace(t, c)
			spec := onNode(serving(), "worker-1")
			// Go listens on multipath TCP where the kernel has it, which CRIU cannot dump.
			spec.Containers[0].Env = []corev1.EnvVar{{Name: "GODEBUG", Value: "multipathtcp=0"}}
			spec.SecurityContext = &corev1.PodSecurityContext{
				RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			}
			pod := start(t, c, ns, "counter", spec)
			waitForCount(t, c, pod, 20)
			id := strings.TrimPrefix(pod.Status.ContainerStatuses[0].ContainerID, "containerd://")
			before := count(t, c, pod)
			c.OnNode(t, "worker-1", fmt.Sprintf(checkpointAndGoOn, id))
			after := waitForCount(t, c, pod, before.Count+5)
			if after.PID != before.PID || int64(after.UID) != user {
				t.Errorf("before it was %+v, now %+v", before, after)
			}
			// Without its kubelet nobody starts the container anew.
			c.Run(t, "component", "stop", "kubelet", "--node=worker-1")
			defer c.Run(t, "component", "start", "kubelet", "--node=worker-1")
			c.OnNode(t, "worker-1", fmt.Sprintf(checkpointAndRestore, id))
			defer c.OnNode(t, "worker-1", fmt.Sprintf(removeRestored, id))
			other := start(t, c, ns, "other", onNode(serving(), "worker-2"))
			var restored answer
			if err := json.Unmarshal([]byte(fetches(t, c, other, "http://"+pod.Status.PodIP+":8080/count")), &restored); err != nil {
				t.Fatal(err)
			}
			t.Logf("count before %d, after the checkpoint %d, after the restore %d", before.Count, after.Count, restored.Count)
			if restored.Count < after.Count || restored.PID != before.PID || int64(restored.UID) != user {
				t.Errorf("before it was %+v, restored it is %+v", before, restored)
			}
		})
	}
}

const runc = "runc --root /run/containerd/runc/k8s.io "

// checkpointAndGoOn freezes the container %[1]s, writes its image and lets it go on.
const checkpointAndGoOn = `
` + runc + `pause %[1]s
` + runc + `checkpoint --leave-running --file-locks --tcp-established --image-path /var/lib/by-hand/%[1]s-1 --work-path /var/lib/by-hand/%[1]s-1 %[1]s
` + runc + `resume %[1]s
`

// checkpointAndRestore ends the process of the container %[1]s with its checkpoint and restores it as %[1]s-r: from the container's own
// spec, on its own root file system, into its own pod, as containerd removes the container itself. Its output goes where a container's
// output must go: into a pipe.
const checkpointAndRestore = `
bundle=/run/containerd/io.containerd.runtime.v2.task/k8s.io/%[1]s
dir=/run/by-hand/%[1]s; mkdir -p $dir/rootfs
cp $bundle/config.json $dir/
options=$(awk -v at=$bundle/rootfs '$2 == at {print $4}' /proc/mounts)
` + runc + `pause %[1]s
` + runc + `checkpoint --file-locks --tcp-established --image-path /var/lib/by-hand/%[1]s-2 --work-path /var/lib/by-hand/%[1]s-2 %[1]s
while mountpoint -q $bundle/rootfs; do sleep 0.1; done
mount -t overlay -o "$options" overlay $dir/rootfs
sed -i 's|"root":{"path":"[^"]*"|"root":{"path":"'$dir'/rootfs"|' $dir/config.json
mkfifo $dir/out; cat $dir/out > /dev/null 2>&1 & exec 3> $dir/out
` + runc + `restore --detach --file-locks --tcp-established --image-path /var/lib/by-hand/%[1]s-2 --work-path $dir --bundle $dir %[1]s-r < /dev/null >&3 2>&3 \
  || { grep Error $dir/restore.log >&2; exit 1; }
`

const removeRestored = `
` + runc + `delete --force %[1]s-r || true
umount /run/by-hand/%[1]s/rootfs || true
rm -rf /run/by-hand/%[1]s /var/lib/by-hand/%[1]s-*
`

// answer is what testapp says of itself.
type answer struct {
	Count    int64
	PID, UID int
	Host     string
}

func count(t *testing.T, c *lab.Cluster, pod *corev1.Pod) answer {
	t.Helper()
	body, err := ask(t.Context(), c, pod, "count", nil)
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("it says %q: %v", body, err)
	}
	return a
}

func waitForCount(t *testing.T, c *lab.Cluster, pod *corev1.Pod, least int64) answer {
	t.Helper()
	var now answer
	lab.Eventually(t, 90*time.Second, fmt.Sprintf("%s counted to %d", pod.Name, least), func() error {
		body, err := ask(t.Context(), c, pod, "count", nil)
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(body), &now); err != nil {
			return err
		}
		if now.Count < least {
			return fmt.Errorf("it is at %d", now.Count)
		}
		return nil
	})
	return now
}
