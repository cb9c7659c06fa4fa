package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// installedNode is the one on which this is done, so that the tests beside it have the other one.
const installedNode = "worker-2"

// installation is the operator's part on one node, which the test takes off and brings back.
type installation struct {
	c    *lab.Cluster
	main string // of containerd, as it was at first
}

const mainFile = "/etc/containerd/config.toml"

// installedTraces finds all that an installation leaves on a node.
const installedTraces = "for f in /opt/checkpoint /run/checkpoint /var/lib/checkpoint /etc/containerd/conf.d/transparent-checkpoint.toml " +
	mainFile + ".before-transparent-checkpoint; do test ! -e $f || echo $f; done"

// unsentStates finds states that are on the node alone.
const unsentStates = "cd /var/lib/checkpoint/captures || exit 0; for d in */[0-9]*; do test ! -d $d || test -e $d/" + capture.UploadedFile + " || test -e $d/" +
	capture.DiscardedFile + ` || grep -q '"state": *"failed"' $d/` + capture.FileName + " || echo $d; done"

// isIdle waits until nothing of the tests before is on the node: a removal while pods of the operator or states are there is another one.
func (i *installation) isIdle(t *testing.T) {
	t.Helper()
	lab.Eventually(t, 3*time.Minute, "neither pods nor states of other tests are on "+installedNode, func() error {
		pods, err := i.c.Client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + installedNode})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if strings.HasPrefix(pod.Namespace, "test-") {
				return fmt.Errorf("pod %s/%s is there", pod.Namespace, pod.Name)
			}
		}
		if unsent := i.c.OnNode(t, installedNode, unsentStates); unsent != "" {
			return errors.New(unsent)
		}
		return nil
	})
}

// bringBack has the operator on the node as before, also where the test fails: those after it need it.
func (i *installation) bringBack(t *testing.T) {
	if !t.Failed() {
		return
	}
	if _, err := lab.Localcluster(context.Background(), i.c.Name, "node", "exec", installedNode, "--", "sh", "-c",
		"cat > "+mainFile+" <<'END'\n"+i.main+"END\n"); err != nil {
		t.Error(err)
	}
	if _, err := lab.Localcluster(context.Background(), i.c.Name, "component", "kill", "containerd", "--node="+installedNode); err != nil {
		t.Error(err)
	}
	if err := i.patch(context.Background(), true); err != nil {
		t.Error(err)
	}
	awaitAgent(t, i.c, installedNode, nil)
}

// withAgent has the DaemonSet run an agent on the node, or none; that is no removal.
func (i *installation) withAgent(t *testing.T, runs bool) {
	t.Helper()
	if err := i.patch(t.Context(), runs); err != nil {
		t.Fatal(err)
	}
	sets := i.c.Client.AppsV1().DaemonSets(install.AgentNamespace)
	lab.Eventually(t, 2*time.Minute, "the agents are on the nodes on which they belong", func() error {
		set, err := sets.Get(t.Context(), install.Agent, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods, err := i.c.Client.CoreV1().Pods(install.AgentNamespace).List(t.Context(), metav1.ListOptions{
			LabelSelector: "app.kubernetes.io/name=" + install.Agent, FieldSelector: "spec.nodeName=" + installedNode,
		})
		s := set.Status
		if err == nil && (s.ObservedGeneration < set.Generation || s.UpdatedNumberScheduled < s.DesiredNumberScheduled ||
			s.NumberAvailable < s.DesiredNumberScheduled || (len(pods.Items) > 0) != runs) {
			err = fmt.Errorf("there are %d on %s, and in all %+v", len(pods.Items), installedNode, s)
		}
		return err
	})
}

// patch has the DaemonSet's template name the node as one for no agent, or none at all.
func (i *installation) patch(ctx context.Context, runs bool) error {
	not := installedNode
	if runs {
		not = "none"
	}
	patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[`+
		`{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"NotIn","values":[%q]}]}]}}}}}}}`, not)
	_, err := i.c.Client.AppsV1().DaemonSets(install.AgentNamespace).Patch(ctx, install.Agent, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// isReady waits for the label of the node, or until it is gone.
func (i *installation) isReady(t *testing.T, wanted bool) {
	t.Helper()
	lab.Eventually(t, time.Minute, fmt.Sprintf("%s is ready: %t", installedNode, wanted), func() error {
		node, err := i.c.Client.CoreV1().Nodes().Get(t.Context(), installedNode, metav1.GetOptions{})
		if err == nil && (node.Labels[keys.NodeReady] == keys.True) != wanted {
			err = fmt.Errorf("its labels are %v", node.Labels)
		}
		return err
	})
}

// remove takes the installation off the node by hand, with a pod like the agent's.
func (i *installation) remove(t *testing.T) {
	t.Helper()
	set, err := i.c.Client.AppsV1().DaemonSets(install.AgentNamespace).Get(t.Context(), install.Agent, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec := set.Spec.Template.Spec
	spec.NodeName, spec.Affinity, spec.RestartPolicy, spec.Volumes = installedNode, nil, corev1.RestartPolicyNever, nil
	agent := &spec.Containers[0]
	agent.Args, agent.VolumeMounts, agent.LivenessProbe, agent.ReadinessProbe, agent.Ports = append(agent.Args, "--remove"), nil, nil, nil, nil
	pods := i.c.Client.CoreV1().Pods(install.AgentNamespace)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "remove-", Labels: map[string]string{keys.CheckpointMode: "false"}}, Spec: spec}
	if pod, err = pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, time.Minute, "the removal has ended", func() error {
		now, err := pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err == nil && now.Status.Phase != corev1.PodSucceeded {
			text, logErr := lab.Localcluster(t.Context(), i.c.Name, "kubectl", "--", "logs", "-n", install.AgentNamespace, pod.Name)
			err = errors.Join(fmt.Errorf("it is %s: %s", now.Status.Phase, text), logErr)
		}
		return err
	})
	if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// isGone waits until nothing of the installation is on the node, and containerd's main file is to the last byte what it was.
func (i *installation) isGone(t *testing.T, main string) {
	t.Helper()
	lab.Eventually(t, time.Minute, "nothing is left on the node", func() error {
		if left := i.c.OnNode(t, installedNode, installedTraces); left != "" {
			return errors.New(left)
		}
		return nil
	})
	if now := i.c.OnNode(t, installedNode, "cat "+mainFile); now != main {
		t.Errorf("containerd's main file is\n%s\nand was\n%s", now, main)
	}
}

// configure gives containerd another main file, while nothing is installed.
func (i *installation) configure(t *testing.T, main string) {
	t.Helper()
	i.c.OnNode(t, installedNode, "cat > "+mainFile+" <<'END'\n"+main+"END\n")
	before, _ := i.c.Status(t).Component(installedNode, "containerd")
	i.c.Run(t, "component", "kill", "containerd", "--node="+installedNode)
	awaitState(t, i.c, installedNode, "containerd", func(now lab.Component) bool { return now.State == "Running" && now.PID != before.PID })
}

// mainFiles are what the node's main file becomes, made from the one that it has.
func mainFiles(main string) map[string]string {
	withoutImports := regexp.MustCompile(`(?m)^imports = .*\n`).ReplaceAllString(main, "")
	pause := regexp.MustCompile(`sandbox = '(.*)'`).FindStringSubmatch(main)[1]
	disabled := regexp.MustCompile(`(?s)disabled_plugins = \[.*?\]\n`).FindString(main)
	low := regexp.MustCompile(`restrict_oom_score_adj = .*`).FindString(main)
	systemd := regexp.MustCompile(`SystemdCgroup = .*`).FindString(main)
	return map[string]string{
		"without imports": "# Without imports, and with a comment.\n" + withoutImports,
		"of version 2": "version = 2\n" + disabled + `
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pause + `"
  ` + low + `
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "/usr/local/sbin/runc"
      ` + systemd + `
`,
	}
}

// TestAContainerdOfAnyConfigurationServesUntilTheEnd: the handler gets into a main file of each kind, pods are captured and restored there, and all of it is
// taken back while a pod runs, which ends as any other.
func TestAContainerdOfAnyConfigurationServesUntilTheEnd(t *testing.T) {
	c := labelled(t)
	i := &installation{c: c, main: c.OnNode(t, installedNode, "cat "+mainFile)}
	i.isIdle(t)
	t.Cleanup(func() { i.bringBack(t) })
	i.withAgent(t, false)
	has(t, c.OnNode(t, installedNode, installedTraces), "/opt/checkpoint\n")
	i.remove(t)
	i.isReady(t, false)
	i.isGone(t, i.main)
	for what, main := range mainFiles(i.main) {
		t.Run(what, func(t *testing.T) {
			i.configure(t, main)
			i.withAgent(t, true)
			i.isReady(t, true)
			w, pod := newWorkload(t, c, plainPod, func(template *corev1.PodTemplateSpec) { template.Spec = onNode(template.Spec, installedNode) })
			before := waitForCount(t, c, pod, 20)
			w.deletePod(t, pod)
			next := w.running(t, pod)
			w.goesOn(t, next, before, nil)
			if edited := c.OnNode(t, installedNode, "cat "+mainFile); edited == main || !strings.Contains(edited, "transparent-checkpoint") {
				t.Errorf("with the operator the main file is\n%s", edited)
			}

			lab.Eventually(t, time.Minute, "the state is in the bucket", func() error {
				sent := "/var/lib/checkpoint/captures/" + string(pod.UID) + "/1/" + capture.UploadedFile
				if c.OnNode(t, installedNode, "test -e "+sent+" || echo no") != "" {
					return errors.New("not yet")
				}
				return nil
			})

			i.withAgent(t, false)
			i.remove(t)
			i.isReady(t, true)
			has(t, c.OnNode(t, installedNode, installedTraces+"; ls /opt/checkpoint"), "retired")
			waitForCount(t, c, next, 10)
			if err := c.Client.CoreV1().Pods(w.ns).Delete(t.Context(), next.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			i.isGone(t, main)
			i.remove(t)
			i.isReady(t, false)
		})
	}
	i.configure(t, i.main)
	i.withAgent(t, true)
	i.isReady(t, true)
}
