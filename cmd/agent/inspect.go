package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/transparent-checkpoint/operator/cmd/internal/selfcheck"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/version"
	manifests "github.com/transparent-checkpoint/operator/manifests/agent"
	"github.com/transparent-checkpoint/operator/node/agent"
)

// inspectWords is what an inspection can be asked for.
const inspectWords = "doctor, logs capture NAMESPACE POD POD-UID CHECKPOINT-UID or logs restore NAMESPACE POD POD-UID"

// inspectAndExit answers kubectl checkpoint, which calls this program in the container of an agent with the agent's own arguments and then some words. It
// writes JSON, and ends the program with 1 when that did not succeed.
func inspectAndExit(args []string) {
	o := options{}
	flags := flag.NewFlagSet("inspect", flag.ExitOnError)
	o.addTo(flags)
	_ = flags.Parse(args) // it ends the program by itself
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	answer, err := o.inspect(ctrl.SetupSignalHandler(), flags.Args())
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (o options) inspect(ctx context.Context, words []string) (any, error) {
	budget, err := agent.ParseDiskBudget(o.diskBudget)
	if err != nil {
		return nil, fmt.Errorf("--disk-budget %w", err)
	}
	a := &agent.Agent{Node: capture.Node{Root: o.root, HomeDir: o.home}, NodeName: o.node, Pod: o.pod, DiskBudget: budget, Now: time.Now}
	word := slices.Concat(words, make([]string, 6))
	pod := capture.Pod{Namespace: word[2], Name: word[3], UID: word[4]}
	switch {
	case word[0] == "doctor" && len(words) == 1:
		return o.checks(ctx, a)
	case word[0] == "logs" && word[1] == "capture" && len(words) == 6:
		return a.Logs(agent.LogsOf{Pod: pod, CheckpointUID: word[5]})
	case word[0] == "logs" && word[1] == "restore" && len(words) == 5:
		return a.Logs(agent.LogsOf{Pod: pod, Restore: true})
	}
	return nil, fmt.Errorf("inspect %q is not known; it may be %s", words, inspectWords)
}

// checks are what an agent finds out about its node and itself.
func (o options) checks(ctx context.Context, a *agent.Agent) (inspect.Answer, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return inspect.Answer{}, err
	}
	config.QPS, config.Burst = 50, 100 // a person waits
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return inspect.Answer{}, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return inspect.Answer{}, err
	}
	checks := o.installer(a.Node, c, c).Checks(ctx)
	checks = append(checks, a.Checks(ctx)...)
	namespaces := map[string]string{"checkpoint-system": o.namespace, "checkpoint-agents": o.pod.Namespace}
	return inspect.Answer{Version: version.Version, Checks: append(checks,
		selfcheck.Rights(ctx, c, manifests.Rights, namespaces), selfcheck.Clock(ctx, config),
	)}, nil
}
