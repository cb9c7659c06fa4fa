package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// own brings up a cluster that the test alone has, and may break.
func own(t *testing.T, name string, args ...string) *lab.Cluster {
	t.Helper()
	cluster(t)
	c, err := lab.Up(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestANodeComesBackAfterAPowerCut(t *testing.T) {
	c := own(t, "e2e-power")
	c.Run(t, "image", "build", image, "--binary=build/images/testapp")
	ns := namespace(t, c)
	pod := start(t, c, ns, "victim", onNode(serving(), "worker-1"))
	witness := start(t, c, ns, "witness", onNode(serving(), "worker-2"))
	waitForCount(t, c, pod, 30)
	c.OnNode(t, "worker-1", "echo kept > /var/lib/kept; echo lost > /run/lost")
	boot := bootID(t, c, "worker-1")

	c.Run(t, "node", "stop", "worker-1")
	if pids := processesOf(t, c.Name+"/worker-1"); len(pids) > 0 {
		t.Errorf("after the power cut the node still has the processes %v", pids)
	}
	if _, err := lab.Localcluster(t.Context(), c.Name, "node", "exec", "worker-1", "--", "true"); err == nil || !strings.Contains(err.Error(), "is not running") {
		t.Errorf("a command on the node says %v", err)
	}
	waitForCount(t, c, witness, 10)

	c.Run(t, "node", "start", "worker-1")
	lab.Eventually(t, 2*time.Minute, "the pod runs again", func() error {
		now, err := c.Client.CoreV1().Pods(ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err == nil && (len(now.Status.ContainerStatuses) == 0 || now.Status.ContainerStatuses[0].RestartCount != 1 || !now.Status.ContainerStatuses[0].Ready) {
			err = fmt.Errorf("its containers are %+v", now.Status.ContainerStatuses)
		}
		return err
	})
	if now := count(t, c, pod); now.Count > 600 {
		t.Errorf("it counts on at %d, though its memory was lost", now.Count)
	}
	if got := c.OnNode(t, "worker-1", "cat /var/lib/kept; cat /run/lost 2> /dev/null || true"); got != "kept\n" {
		t.Errorf("of disk and memory there is %q", got)
	}
	if now := bootID(t, c, "worker-1"); now == boot {
		t.Errorf("its boot id is still %s", now)
	}
}

func bootID(t *testing.T, c *lab.Cluster, node string) string {
	t.Helper()
	return c.OnNode(t, node, "cat /proc/sys/kernel/random/boot_id")
}

func TestTheSupervisorRestartsWhatDies(t *testing.T) {
	c := own(t, "e2e-parts", "--nodes=1")
	for _, at := range []struct{ node, name string }{
		{"", "etcd"}, {"", "kube-apiserver"}, {"", "kube-controller-manager"}, {"", "kube-scheduler"}, {"", "minio"}, {"", "registry"},
		{"worker-1", "containerd"}, {"worker-1", "kubelet"}, {"worker-1", "kube-proxy"},
	} {
		t.Run(at.name, func(t *testing.T) {
			before, _ := c.Status(t).Component(at.node, at.name)
			flags := []string{at.name}
			if at.node != "" {
				flags = append(flags, "--node="+at.node)
			}
			c.Run(t, append([]string{"component", "kill"}, flags...)...)
			awaitState(t, c, at.node, at.name, func(now lab.Component) bool {
				return now.State == "Running" && now.Restarts == before.Restarts+1 && now.PID != before.PID
			})
			c.Run(t, append([]string{"component", "stop"}, flags...)...)
			awaitState(t, c, at.node, at.name, func(now lab.Component) bool { return now.State == "Stopped" && now.PID == 0 })
			c.Run(t, append([]string{"component", "start"}, flags...)...)
			awaitState(t, c, at.node, at.name, func(now lab.Component) bool { return now.State == "Running" })
			if c.Run(t, append([]string{"logs"}, flags...)...) == "" && at.name != "minio" {
				t.Error("its log is empty")
			}
		})
	}
	if _, err := lab.Up(t.Context(), c.Name, "--nodes=1"); err != nil {
		t.Errorf("the cluster does not become ready again: %v", err)
	}
}

func awaitState(t *testing.T, c *lab.Cluster, node, name string, as func(lab.Component) bool) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, name, func() error {
		now, ok := c.Status(t).Component(node, name)
		if !ok || !as(now) {
			return fmt.Errorf("its state is %+v", now)
		}
		return nil
	})
}

func TestTwoClustersSideBySide(t *testing.T) {
	one := cluster(t)
	two := own(t, "e2e-two", "--nodes=1")
	name := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "whose"}, Data: map[string]string{"cluster": "two"}}
	if _, err := two.Client.CoreV1().ConfigMaps("default").Create(t.Context(), name, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Client.CoreV1().ConfigMaps("default").Get(t.Context(), "whose", metav1.GetOptions{}); err == nil {
		t.Error("what was written to one cluster is in the other")
	}
	two.OnNode(t, "worker-1", "echo two > /var/lib/whose")
	if got := one.OnNode(t, "worker-1", "cat /var/lib/whose 2> /dev/null || echo one"); got != "one\n" {
		t.Errorf("the node of one cluster has the file of the other's: %q", got)
	}
	if err := two.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !one.Status(t).Running {
		t.Error("the end of one cluster ended the other")
	}
	if _, err := one.Client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}

// TestUpAndDownLeaveNothing brings a cluster up and down again and again, after every kind of accident that there may have been.
func TestUpAndDownLeaveNothing(t *testing.T) {
	t.Parallel() // with those that make no cluster
	cluster(t)
	const name = "e2e-leak"
	rounds := 7 // each accident once, and a last round after the last of them
	if n, err := strconv.Atoi(os.Getenv("TEST_ROUNDS")); err == nil {
		rounds = n
	}
	accidents := []struct {
		what string
		do   func(t *testing.T, c *lab.Cluster)
	}{
		{"none", func(*testing.T, *lab.Cluster) {}},
		{"the supervisor is killed", func(t *testing.T, _ *lab.Cluster) { killListener(t, spec.Cluster{Name: name}.Socket()) }},
		{"the supervisor is killed, and the cluster brought up again", func(t *testing.T, c *lab.Cluster) {
			wanted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "kept-"}}
			made, err := c.Client.CoreV1().ConfigMaps("default").Create(t.Context(), wanted, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			killListener(t, spec.Cluster{Name: name}.Socket())
			again, err := lab.Up(t.Context(), name, "--nodes=1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := again.Client.CoreV1().ConfigMaps("default").Get(t.Context(), made.Name, metav1.GetOptions{}); err != nil {
				t.Errorf("the API server forgot: %v", err)
			}
		}},
		{"a node's init is killed", func(t *testing.T, _ *lab.Cluster) {
			killListener(t, spec.Cluster{Name: name}.NodeSocket("worker-1"))
		}},
		{"every process is killed, one by one", func(t *testing.T, _ *lab.Cluster) {
			for _, pid := range processesOf(t, name) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended with another
			}
		}},
		{"up is killed in the middle", func(t *testing.T, c *lab.Cluster) {
			if err := c.Down(t.Context()); err != nil {
				t.Fatal(err)
			}
			up := exec.CommandContext(t.Context(), "../../bin/localcluster", "--name="+name, "up")
			if err := up.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(700 * time.Millisecond)
			_ = up.Process.Kill()
			_ = up.Wait()
		}},
	}
	before := machine(t, name)
	for round := range rounds {
		accident := accidents[round%len(accidents)]
		t.Run(fmt.Sprintf("%d %s", round+1, accident.what), func(t *testing.T) {
			c, err := lab.Up(t.Context(), name, "--nodes=1")
			if err != nil {
				t.Fatal(err)
			}
			accident.do(t, c)
			if err := c.Down(t.Context()); err != nil {
				t.Fatal(err)
			}
			lab.Eventually(t, 5*time.Second, "nothing is left", func() error {
				if diff := cmp.Diff(before, machine(t, name)); diff != "" {
					return fmt.Errorf("(-before +after)\n%s", diff)
				}
				return nil
			})
		})
	}
}

// traces are what a cluster leaves on a machine as long as it is there.
type traces struct {
	Processes   []int
	Mounts      []string
	Loops       []string
	Links       []string
	Cgroups     []string
	Directories []string
}

// machine looks for the traces of a cluster, and at all mounts and links that the machine itself has.
func machine(t *testing.T, name string) traces {
	t.Helper()
	found := traces{Processes: processesOf(t, name)}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	dir := spec.Cluster{Name: name}.Dir()
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) { // others may come and go meanwhile
			found.Mounts = append(found.Mounts, line)
		}
	}
	if found.Loops, err = host.LoopDevicesOf(dir); err != nil {
		t.Fatal(err)
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		found.Links = append(found.Links, link.Name)
	}
	hierarchies, err := host.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hierarchies {
		if path := filepath.Join(h.MountPoint, spec.CgroupParent, name); exists(path) {
			found.Cgroups = append(found.Cgroups, path)
		}
	}
	for _, path := range []string{dir, spec.Cluster{Name: name}.LockFile()} {
		if exists(path) {
			found.Directories = append(found.Directories, path)
		}
	}
	return found
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// processesOf returns the processes of a cluster, or of a part of one given as CLUSTER/PART, by their cgroups.
func processesOf(t *testing.T, part string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if group := "/" + spec.CgroupParent + "/" + part; strings.Contains(string(data), group+"/") || strings.Contains(string(data), group+"\n") {
			pid, err := strconv.Atoi(strings.Split(file, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func killListener(t *testing.T, socket string) {
	t.Helper()
	pid, err := host.ListenerPID(socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
