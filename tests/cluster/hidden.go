package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/image"
	"github.com/transparent-checkpoint/operator/tests/cluster/node"
	"github.com/transparent-checkpoint/operator/tests/cluster/plane"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
	"github.com/transparent-checkpoint/operator/tests/cluster/vm"
)

// The verbs in this file are how the program calls itself.

// The listeners of the supervisor, which `up` opens in the machine's network.
const (
	apiListener = 3
	s3Listener  = 4
)

func (c *command) supervise() *cobra.Command {
	return &cobra.Command{Use: "supervise", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		cluster, err := c.cluster()
		if err != nil {
			return err
		}
		api, err := net.FileListener(os.NewFile(apiListener, "api"))
		if err != nil {
			return err
		}
		s3, err := net.FileListener(os.NewFile(s3Listener, "s3"))
		if err != nil {
			return err
		}
		return plane.Run(cluster, api, s3)
	}}
}

func (c *command) nodeInit() *cobra.Command {
	var name string
	var inCgroup bool
	command := &cobra.Command{Use: "node-init", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		cluster, err := c.cluster()
		if err != nil {
			return err
		}
		return node.Init(cluster, name, inCgroup)
	}}
	command.Flags().StringVar(&name, "node", "", "")
	command.Flags().BoolVar(&inCgroup, "in-cgroup", false, "")
	return command
}

func (c *command) registry() *cobra.Command {
	var address, images string
	command := &cobra.Command{Use: "registry", Hidden: true, Args: cobra.NoArgs, RunE: func(command *cobra.Command, _ []string) error {
		return image.ServeRegistry(command.Context(), address, images)
	}}
	command.Flags().StringVar(&address, "address", "", "")
	command.Flags().StringVar(&images, "images", "", "")
	return command
}

// enter becomes a command on a node: in its cgroup, in all its namespaces, with its paths.
func (c *command) enter() *cobra.Command {
	var name string
	command := &cobra.Command{Use: "enter", Hidden: true, RunE: func(_ *cobra.Command, args []string) error {
		cluster, state, err := c.existing()
		if err != nil {
			return err
		}
		n, err := state.Node(name)
		if err != nil {
			return err
		}
		if n.VM {
			return enterMachine(cluster, n, args)
		}
		pid, err := host.ListenerPID(cluster.NodeSocket(name))
		if err != nil {
			return fmt.Errorf("node %q is not running: %w", name, err)
		}
		if err := host.JoinCgroup(filepath.Join(node.Cgroup(cluster, n), node.ExecCgroup)); err != nil {
			return err
		}
		words := append([]string{"nsenter", fmt.Sprintf("--target=%d", pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
			"--root", "--wd", "--", "env", node.Path, "HOME=/root"}, args...)
		return syscall.Exec(nsenter(), words, os.Environ())
	}}
	command.Flags().StringVar(&name, "node", "", "")
	return command
}

// enterMachine becomes a command on a node that is a virtual machine: it is called from the network of the control plane. The connection that commands
// share ends with the cluster.
func enterMachine(cluster spec.Cluster, n spec.Node, args []string) error {
	pid, err := host.ListenerPID(cluster.Socket())
	if err != nil {
		return fmt.Errorf("cluster %q is not running: %w", cluster.Name, err)
	}
	if err := host.JoinCgroup(filepath.Join(cluster.Cgroup(), n.Name)); err != nil {
		return err
	}
	words := append([]string{"nsenter", fmt.Sprintf("--target=%d", pid), "--net", "--"}, vm.SSH(cluster, n, args)...)
	return syscall.Exec(nsenter(), words, os.Environ())
}
