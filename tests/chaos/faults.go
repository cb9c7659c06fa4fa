package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/internal/failpoint"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
	"github.com/transparent-checkpoint/operator/tests/install"
)

// fault is something that breaks.
type fault struct {
	name string
	// step is where a process of ours ends; empty where the fault comes at a moment.
	step failpoint.Point
	// lasts says that it is there for a while, and ends then.
	lasts bool
	// loses says that a pod that ends meanwhile may lose its state: its processes end with the fault, before their state is anywhere else.
	loses bool
	begin func(ctx context.Context, r *run, node string) error
	end   func(ctx context.Context, r *run, node string) error
}

// faults are all that may break. The name is a row of the table.
func faults() []fault {
	all := []fault{
		{name: "nothing"},
		stopped("kube-apiserver"), stopped("minio"), stopped("etcd"),
		killed("agent", "agent"), killed("manager", "manager"), killed("criu", "criu"), killed("runtime", "checkpoint-runt"),
		killed("containerd", "containerd"), killed("kubelet", "kubelet"),
		{name: "power of the node", lasts: true, loses: true, begin: power("stop"), end: power("start")},
		hung("kube-apiserver"), hung("etcd"), hung("minio"),
		asleep("agent", "agent"), asleep("manager", "manager"), asleep("containerd", "containerd"), asleep("kubelet", "kubelet"),
		apart("API server", spec.APIPort), apart("bucket", bucketPort), apart("API server and bucket", spec.APIPort, bucketPort),
		moody(throttling), moody(full), moody(forgetful), moody(lying), moody(slow), moody(failing),
		limping("kube-apiserver"), {name: "API server answers 429", lasts: true, begin: tooMany, end: enough},
		{name: "rollout of manager and agents", begin: rollout},
		{name: "no webhook", lasts: true, begin: managers(0), end: managers(managerReplicas)},
		// What does not fit on the disk is not captured, and the pod ends as it would have.
		{name: "disk of the node full", lasts: true, loses: true, begin: onNode(fillDisk), end: onNode("rm -f " + filler)},
	}
	for _, point := range append(failpoint.Runtime(), failpoint.Agent()...) {
		// What was restored may have run by then: it is used up (design M5).
		all = append(all, fault{name: "kill at " + string(point), step: point, loses: point == failpoint.RestoreRunning})
	}
	return all
}

// stopped is a program of the control plane that is away.
func stopped(component string) fault {
	return fault{name: component + " away", lasts: true, begin: does("stop", component), end: does("start", component)}
}

// hung is one that takes connections, and answers nothing.
func hung(component string) fault {
	return fault{name: component + " hung", lasts: true, begin: does("pause", component), end: does("resume", component)}
}

// does has the lab do something with a program of the control plane.
func does(verb, component string) func(context.Context, *run, string) error {
	return func(ctx context.Context, r *run, _ string) error {
		_, err := lab.Localcluster(ctx, r.cluster.Name, "component", verb, component)
		return err
	}
}

// asleep is a program of the node that does nothing for a while, and wakes up without knowing: a manager among them believes that it still leads.
func asleep(name, comm string) fault {
	send := func(signal string) func(context.Context, *run, string) error {
		const each = `for f in $(grep -lx %s /proc/[0-9]*/comm 2>/dev/null); do p=${f%%/comm}; kill -%s ${p#/proc/} 2>/dev/null; done; true`
		return onNode(fmt.Sprintf(each, comm, signal))
	}
	return fault{name: name + " asleep", lasts: true, begin: send("STOP"), end: send("CONT")}
}

// apart is a node from which something of the control plane cannot be reached: nothing comes back, not even a refusal.
func apart(from string, ports ...int) fault {
	rules := func(verb string) func(context.Context, *run, string) error {
		script := "set -e\n"
		for _, port := range ports {
			for _, chain := range []string{"OUTPUT", "FORWARD"} { // of the node itself, and of its pods
				script += fmt.Sprintf("iptables -w %s %s -d %s -p tcp --dport %d -j DROP\n", verb, chain, spec.PlaneIP, port)
			}
		}
		return onNode(script)
	}
	return fault{name: "node apart from " + from, lasts: true, begin: rules("-I"), end: rules("-D")}
}

// managerReplicas is how many managers an installation has.
const managerReplicas = 2

// managers has so many managers run: without one there is no webhook, and no controller.
func managers(count int) func(context.Context, *run, string) error {
	return func(ctx context.Context, r *run, _ string) error {
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, count)
		_, err := r.cluster.Client.AppsV1().Deployments(install.Namespace).Patch(ctx, "checkpoint-manager", types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
}

// filler is a file that takes all room that there is on a node's disk, but for a MiB, so that the node goes on.
const (
	filler   = "/var/lib/checkpoint/.filler"
	fillDisk = `for i in 1 2 3 4 5; do room=$(df --output=avail -B1M /var/lib/checkpoint | tail -1)
[ "$room" -gt 1 ] || exit 0; fallocate -l $((room - 1))M ` + filler + ` && exit 0; rm -f ` + filler + `; done; exit 1`  // a capture takes some meanwhile
)

// onNode runs a script on the node.
func onNode(script string) func(context.Context, *run, string) error {
	return func(ctx context.Context, r *run, node string) error {
		_, err := r.on(ctx, node, script)
		return err
	}
}

// killed ends all processes of that name on the node, as the kernel has it.
func killed(name, comm string) fault {
	// One that is not there yet is waited for: CRIU runs for half a second.
	script := fmt.Sprintf(`for i in $(seq 1 100); do found=
for f in $(grep -lx %s /proc/[0-9]*/comm 2>/dev/null); do p=${f%%/comm}; kill -9 ${p#/proc/} 2>/dev/null && found=1; done
[ -z "$found" ] || { echo killed; exit 0; }
sleep 0.02; done`, comm)
	return fault{name: "kill " + name, begin: func(ctx context.Context, r *run, node string) error {
		output, err := r.on(ctx, node, script)
		if strings.Contains(output, "killed") {
			r.hit()
		}
		return err
	}}
}

func power(verb string) func(context.Context, *run, string) error {
	return func(ctx context.Context, r *run, node string) error {
		_, err := lab.Localcluster(ctx, r.cluster.Name, "node", verb, node)
		return err
	}
}

// wish lays down on every node that whoever comes to a step ends there.
func (r *run) wish(ctx context.Context, point failpoint.Point) error {
	return r.onAll(ctx, fmt.Sprintf("mkdir -p %[1]s; echo kill > %[1]s/.new; mv %[1]s/.new %[1]s/%[2]s", failpoint.Folder, point))
}

// unwish takes back what was wished, and tells whether it was granted.
func (r *run) unwish(ctx context.Context) error {
	for _, node := range r.nodes {
		output, err := r.on(ctx, node, fmt.Sprintf("cd %s 2>/dev/null || exit 0; ls; rm -f ./*", failpoint.Folder))
		if err != nil {
			return err
		}
		if strings.Contains(output, failpoint.Granted) {
			r.hit()
		}
	}
	return nil
}

// on runs a script on a node, as root there.
func (r *run) on(ctx context.Context, node, script string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return lab.Localcluster(ctx, r.cluster.Name, "node", "exec", node, "--", "sh", "-c", script)
}

func (r *run) onAll(ctx context.Context, script string) error {
	for _, node := range r.nodes {
		if _, err := r.on(ctx, node, script); err != nil {
			return err
		}
	}
	return nil
}
