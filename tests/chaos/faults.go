package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/internal/failpoint"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
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
	}
	for _, point := range append(failpoint.Runtime(), failpoint.Agent()...) {
		// What was restored may have run by then: it is used up (design M5).
		all = append(all, fault{name: "kill at " + string(point), step: point, loses: point == failpoint.RestoreRunning})
	}
	return all
}

// stopped is a program of the control plane that is away.
func stopped(component string) fault {
	does := func(verb string) func(context.Context, *run, string) error {
		return func(ctx context.Context, r *run, _ string) error {
			_, err := lab.Localcluster(ctx, r.cluster.Name, "component", verb, component)
			return err
		}
	}
	return fault{name: component + " away", lasts: true, begin: does("stop"), end: does("start")}
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
