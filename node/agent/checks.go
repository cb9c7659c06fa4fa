package agent

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// The headings that say what to do.
const (
	mendShutdown = "docs/operations.md#when-a-node-goes-down"
	mendDisk     = "docs/operations.md#the-disk-of-a-node"
	mendPause    = "docs/operations.md#pausing-for-an-incident"
	mendLog      = "look at its log: kubectl logs -n %s %s"
)

// Checks tell how it stands with the node, as far as the agent has to do with it. They change nothing, and need of the Agent its Node, DiskBudget and Now.
func (a *Agent) Checks(ctx context.Context) []inspect.Check {
	return []inspect.Check{a.checkLock(), a.checkMachine(), a.checkShutdown(), a.checkRequestTimeout(), a.checkDisk(), a.checkWaiting(ctx), a.checkPause()}
}

// checkLock: pods ask the agent that holds the lock.
func (a *Agent) checkLock() inspect.Check {
	c := inspect.Check{Name: "agent", Level: inspect.OK, Says: "it answers the pods of its node"}
	if !a.Node.AgentLives() {
		c.Level, c.Says = inspect.Fail, "no agent holds "+a.Node.AgentLock()+": new pods wait for it, then start cold"
		c.Mend = fmt.Sprintf(mendLog, cmp.Or(a.Pod.Namespace, "checkpoint-agents"), a.Pod.Name)
	}
	return c
}

func (a *Agent) checkMachine() inspect.Check {
	c := inspect.Check{Name: "machine", Level: inspect.OK}
	facts, err := a.machine()
	if err != nil {
		c.Level, c.Says = inspect.Warn, "what machine it is cannot be read: "+err.Error()
		return c
	}
	c.Says = fmt.Sprintf("%s, kernel %s, control groups of version %d", facts.Architecture, facts.Kernel, facts.ControlGroups)
	return c
}

// checkShutdown says what the label memverge.ai/graceful-shutdown is made of.
func (a *Agent) checkShutdown() inspect.Check {
	g := a.readGraceful()
	c := inspect.Check{Name: "graceful shutdown", Level: inspect.OK, Says: g.message}
	if g.value != keys.True {
		c.Level, c.Mend = inspect.Warn, mendShutdown
	}
	return c
}

// leastRequestTimeout is what kubelet gives a call to its container runtime by default. A restore takes place within such a call, and is given up before it.
const leastRequestTimeout = 2 * time.Minute

// checkRequestTimeout: with less than that kubelet would give up a container that is just being restored.
func (a *Agent) checkRequestTimeout() inspect.Check {
	c := inspect.Check{Name: "runtimeRequestTimeout", Level: inspect.OK}
	config, err := a.configOfKubelet()
	switch has := config.RequestTimeout.Duration; {
	case err != nil:
		c.Level, c.Says = inspect.Warn, "it is not known how long kubelet waits for its container runtime: "+err.Error()
		c.Mend = fmt.Sprintf("see to it that kubelet's runtimeRequestTimeout is %s or more, as it is by default", leastRequestTimeout)
	case has == 0:
		c.Says = fmt.Sprintf("kubelet's default, %s", leastRequestTimeout)
	case has < leastRequestTimeout:
		c.Level, c.Says = inspect.Fail, fmt.Sprintf("kubelet waits %s for its container runtime, and ends containers that are just being restored", has)
		c.Mend = fmt.Sprintf("set runtimeRequestTimeout in kubelet's configuration to %s or more, and restart kubelet", leastRequestTimeout)
	default:
		c.Says = fmt.Sprintf("kubelet waits %s for its container runtime", has)
	}
	return c
}

// configOfKubelet is the configuration of the kubelet of the node, which is found by the name of its process.
func (a *Agent) configOfKubelet() (kubeletConfig, error) {
	names, err := filepath.Glob(filepath.Join(a.Node.Root, "proc/[0-9]*/comm"))
	if err != nil {
		return kubeletConfig{}, err
	}
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(comm)) != "kubelet" { // it may have ended meanwhile
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return kubeletConfig{}, err
		}
		return a.kubeletConfig(pid)
	}
	return kubeletConfig{}, fmt.Errorf("no process of the node is called kubelet")
}

// checkDisk compares what is on the disk with what may be there, and looks at what is left.
func (a *Agent) checkDisk() inspect.Check {
	c := inspect.Check{Name: "disk", Level: inspect.OK}
	dir := filepath.Dir(a.Node.CapturesRoot())
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		c.Level, c.Says, c.Mend = inspect.Fail, fmt.Sprintf("%s: %v", dir, err), mendDisk
		return c
	}
	free, budget, has := int64(disk.Bavail)*disk.Bsize, a.DiskBudget.of(dir), a.holds().total()
	size := v1alpha1.ReadableSize(int64(disk.Blocks) * disk.Bsize)
	c.Says = fmt.Sprintf("%s of %s are free; states take %s", v1alpha1.ReadableSize(free), size, v1alpha1.ReadableSize(has))
	if budget > 0 {
		c.Says += fmt.Sprintf(" of the %s that they may", v1alpha1.ReadableSize(budget))
	}
	switch {
	case isNearlyFull(dir):
		c.Level, c.Mend = inspect.Warn, mendDisk
		c.Says += "; with less than a tenth free nothing stays there that the bucket has, and captures may fail with " + string(capture.ReasonNoSpace)
	case budget > 0 && has > budget:
		c.Level, c.Mend = inspect.Warn, mendDisk
		c.Says += "; what is in use or waits for the bucket does not go"
	}
	return c
}

// longWait is for how long a state may be on its node alone before a person should look.
const longWait = 15 * time.Minute

// checkWaiting counts what is on this disk alone.
func (a *Agent) checkWaiting(ctx context.Context) inspect.Check {
	c := inspect.Check{Name: "waiting states", Level: inspect.OK, Says: "none is on this node alone"}
	dirs, err := filepath.Glob(filepath.Join(a.Node.CapturesRoot(), "*", "[0-9]*"))
	if err != nil {
		return c
	}
	count, oldest := 0, a.Now()
	for _, dir := range dirs {
		record, err := capture.Read(dir)
		if ctx.Err() != nil || err != nil || record.State != capture.Complete || isUploadedFrom(dir) || isDiscarded(dir) {
			continue
		}
		count++
		if record.Started.Before(oldest) {
			oldest = record.Started
		}
	}
	if count == 0 {
		return c
	}
	age := a.Now().Sub(oldest).Round(time.Second)
	c.Says = fmt.Sprintf("%d on this node alone, the oldest for %s", count, age)
	if age > longWait {
		c.Level = inspect.Warn
		c.Mend = "keep this node, and see why they are not stored: kubectl checkpoint status -A, docs/operations.md#when-a-location-does-not-work"
	}
	return c
}

func (a *Agent) checkPause() inspect.Check {
	c := inspect.Check{Name: "pause", Level: inspect.OK, Says: "pods are captured and restored"}
	if why, is := a.Node.IsPaused(); is {
		c.Level, c.Says, c.Mend = inspect.Warn, why, mendPause
	}
	return c
}
