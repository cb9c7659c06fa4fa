package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/proc"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

func (c *command) node() *cobra.Command {
	group := &cobra.Command{Use: "node", Short: "Run commands on a node; cut its power and switch it on again"}
	group.AddCommand(c.nodeExec(), c.nodeStop(), c.nodeStart())
	return group
}

func (c *command) nodeExec() *cobra.Command {
	return &cobra.Command{
		Use:   "exec NODE -- CMD…",
		Short: "Run a command on a node, as root there, with this terminal",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			cluster, state, err := c.existing()
			if err != nil {
				return err
			}
			n, err := state.Node(args[0])
			if err != nil {
				return err
			}
			inside := onNode(command.Context(), cluster, n, args[1:]...)
			inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
			return inside.Run()
		},
	}
}

func (c *command) nodeStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop NODE",
		Short: "Cut a node's power: every process on it ends at once, its disk stays",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			_, _, err := c.callNode(command.Context(), args[0], "stop")
			return err
		},
	}
}

func (c *command) nodeStart() *cobra.Command {
	return &cobra.Command{
		Use:   "start NODE",
		Short: "Switch a node on again and wait until it has its images; its pods come back as kubelet sees fit",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			cluster, n, err := c.callNode(command.Context(), args[0], "start")
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(command.Context(), map[bool]time.Duration{false: time.Minute, true: machinesPatience}[n.VM])
			defer cancel()
			return c.await(ctx, "node "+n.Name, func(ctx context.Context) error {
				return c.importMissing(ctx, cluster, &spec.State{Nodes: []spec.Node{n}})
			})
		},
	}
}

func (c *command) callNode(ctx context.Context, name, verb string) (spec.Cluster, spec.Node, error) {
	cluster, state, err := c.existing()
	if err != nil {
		return cluster, spec.Node{}, err
	}
	n, err := state.Node(name)
	if err != nil {
		return cluster, n, err
	}
	return cluster, n, proc.Client{Socket: cluster.Socket()}.Call(ctx, "POST", "/nodes/"+name+"/"+verb, nil, nil)
}

func isBooted(cluster spec.Cluster, n spec.Node) bool {
	if n.VM {
		return onNode(context.Background(), cluster, n, "true").Run() == nil
	}
	_, err := host.ListenerPID(cluster.NodeSocket(n.Name))
	return err == nil
}

func (c *command) component() *cobra.Command {
	group := &cobra.Command{Use: "component", Short: "Stop, start, kill, restart, pause or resume one program of the cluster (see `status` for their names)"}
	verbs := map[string]string{
		"stop":    "End a program, by TERM, and leave it ended",
		"start":   "Start a program that was stopped",
		"kill":    "KILL a program; the supervisor starts it again",
		"restart": "End a program and start it again",
		"pause":   "STOP a program: it takes connections, and answers nothing",
		"resume":  "Have a program go on that was paused",
	}
	for _, verb := range proc.Verbs {
		var nodeName string
		command := &cobra.Command{Use: verb + " NAME", Short: verbs[verb], Args: cobra.ExactArgs(1), RunE: func(command *cobra.Command, args []string) error {
			cluster, state, err := c.existing()
			if err != nil {
				return err
			}
			path := "/components/"
			if nodeName != "" {
				n, err := state.Node(nodeName)
				if err != nil {
					return err
				}
				if n.VM {
					return systemctl(command.Context(), cluster, n, verb, args[0])
				}
				path = "/nodes/" + nodeName + path
			}
			return proc.Client{Socket: cluster.Socket()}.Call(command.Context(), "POST", path+args[0]+"/"+verb, nil, nil)
		}}
		command.Flags().StringVar(&nodeName, "node", "", "the node that the program runs on; none for the control plane")
		group.AddCommand(command)
	}
	return group
}

// systemctl carries out a verb on a program of a virtual machine.
func systemctl(ctx context.Context, cluster spec.Cluster, n spec.Node, verb, name string) error {
	words := []string{"systemctl", verb, name}
	if signal := map[string]string{"kill": "KILL", "pause": "STOP", "resume": "CONT"}[verb]; signal != "" {
		words = []string{"systemctl", "kill", "--signal=" + signal, "--kill-whom=main", name}
	}
	if output, err := onNode(ctx, cluster, n, words...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s on node %q: %w: %s", strings.Join(words, " "), n.Name, err, strings.TrimSpace(string(output)))
	}
	return nil
}

func (c *command) logs() *cobra.Command {
	var nodeName string
	var follow bool
	command := &cobra.Command{
		Use:   "logs COMPONENT",
		Short: "Show what a program of the cluster wrote (COMPONENT as in `status`, or supervisor)",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			cluster, state, err := c.existing()
			if err != nil {
				return err
			}
			if n, err := state.Node(nodeName); err == nil && n.VM {
				return journal(command.Context(), cluster, n, args[0], follow)
			}
			root, err := os.OpenRoot(cluster.Logs())
			if err != nil {
				return err
			}
			defer root.Close()
			name := args[0] + ".log"
			if nodeName != "" {
				name = nodeName + "/" + name
			}
			file, err := root.Open(name)
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("component is %q, node is %q; `localcluster status` names those that there are", args[0], nodeName)
			}
			if err != nil {
				return err
			}
			defer file.Close()
			if follow {
				tail := exec.CommandContext(command.Context(), "tail", "-n", "100", "--follow=name", file.Name())
				tail.Stdout, tail.Stderr = os.Stdout, os.Stderr
				return tail.Run()
			}
			_, err = io.Copy(os.Stdout, file)
			return err
		},
	}
	command.Flags().StringVar(&nodeName, "node", "", "the node that the program runs on; none for the control plane")
	command.Flags().BoolVarP(&follow, "follow", "f", false, "show the last lines, and go on")
	return command
}

// journal shows what a program of a virtual machine wrote.
func journal(ctx context.Context, cluster spec.Cluster, n spec.Node, unit string, follow bool) error {
	words := []string{"journalctl", "--no-pager", "--output=short-iso", "--unit=" + unit}
	if follow {
		words = append(words, "--follow")
	}
	command := onNode(ctx, cluster, n, words...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	return command.Run()
}
