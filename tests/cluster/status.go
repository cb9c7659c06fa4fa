package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/transparent-checkpoint/operator/tests/cluster/debian"
	"github.com/transparent-checkpoint/operator/tests/cluster/node"
	"github.com/transparent-checkpoint/operator/tests/cluster/plane"
	"github.com/transparent-checkpoint/operator/tests/cluster/proc"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// clusterStatus is what `status -o json` prints.
type clusterStatus struct {
	Name       string    `json:"name"`
	Running    bool      `json:"running"`
	Created    time.Time `json:"created"`
	Kubeconfig string    `json:"kubeconfig"`
	API        string    `json:"api"`
	S3         s3Status  `json:"s3"`
	CRIU       string    `json:"criu"`
	// PrlimitShim is true where the kernel lacks CAP_SYS_RESOURCE and CRIU runs behind a shim.
	PrlimitShim bool          `json:"prlimitShim"`
	Components  []proc.Status `json:"components"`
	Nodes       []nodeStatus  `json:"nodes"`
}

// s3Status says how to reach MinIO: Endpoint from the machine, InCluster from pods.
type s3Status struct {
	Endpoint  string `json:"endpoint"`
	InCluster string `json:"inCluster"`
	AccessKey string `json:"accessKey"`
	SecretKey string `json:"secretKey"`
}

func s3Of(state *spec.State) s3Status {
	return s3Status{
		Endpoint: fmt.Sprintf("127.0.0.1:%d", state.S3Port), InCluster: fmt.Sprintf("%s:%d", spec.PlaneIP, spec.S3Port),
		AccessKey: state.S3AccessKey, SecretKey: state.S3SecretKey,
	}
}

type nodeStatus struct {
	plane.NodeStatus
	// Ready is the node's condition at the API server.
	Ready bool `json:"ready"`
}

func (c *command) status() *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster, its nodes and its programs",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("-o is %q; it may be json", output)
			}
			cluster, state, err := c.existing()
			if err != nil {
				return err
			}
			status, err := gather(command.Context(), cluster, state)
			if err != nil {
				return err
			}
			if output == "json" {
				encoder := json.NewEncoder(os.Stdout)
				encoder.SetIndent("", "  ")
				return encoder.Encode(status)
			}
			return show(os.Stdout, status)
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "", "json, or a table by default")
	return command
}

func gather(ctx context.Context, cluster spec.Cluster, state *spec.State) (*clusterStatus, error) {
	shim, err := node.NeedsShim()
	if err != nil {
		return nil, err
	}
	status := &clusterStatus{
		Name: cluster.Name, Created: state.Created, Kubeconfig: cluster.Kubeconfig(), API: fmt.Sprintf("https://127.0.0.1:%d", state.APIPort),
		S3:   s3Of(state),
		CRIU: debian.CRIUVersion, PrlimitShim: shim,
	}
	supervised := &plane.Status{}
	if err := (proc.Client{Socket: cluster.Socket()}).Call(ctx, "GET", "/status", nil, supervised); err != nil {
		if isRunning(cluster) {
			return nil, err
		}
		return status, nil
	}
	status.Running, status.Components = true, supervised.Components
	ready := map[string]bool{}
	if client, err := newClient(cluster); err == nil {
		if known, err := readyNodes(ctx, client); err == nil { // an API server that is down has no opinion
			ready = known
		}
	}
	for _, n := range supervised.Nodes {
		status.Nodes = append(status.Nodes, nodeStatus{NodeStatus: n, Ready: ready[n.Name]})
	}
	return status, nil
}

func show(out io.Writer, s *clusterStatus) error {
	if !s.Running {
		_, err := fmt.Fprintf(out, "Cluster %s is not running; its files are kept. `localcluster up --name %s` brings it up again.\n", s.Name, s.Name)
		return err
	}
	fmt.Fprintf(out, "Cluster:    %s, since %s\nAPI server: %s\nKubeconfig: %s\n"+
		"S3 (MinIO): http://%s, in the cluster http://%s; access key %s\nCRIU:       %s%s\n\n",
		s.Name, s.Created.Local().Format(time.DateTime), s.API, s.Kubeconfig, s.S3.Endpoint, s.S3.InCluster, s.S3.AccessKey, s.CRIU, shimNote(s.PrlimitShim))
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NODE\tKIND\tSTATE\tREADY\tIP\tDISK")
	for _, n := range s.Nodes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%t\t%s\t%s\n", n.Name, kindOf(n), n.Init.State, n.Ready, n.IP(), diskOf(n))
	}
	fmt.Fprintln(table)
	fmt.Fprintln(table, "COMPONENT\tNODE\tSTATE\tRESTARTS\tSINCE\tLAST EXIT")
	for _, component := range s.Components {
		row(table, "", component)
	}
	for _, n := range s.Nodes {
		if n.Booted == nil {
			continue
		}
		for _, component := range n.Booted.Components {
			row(table, n.Name, component)
		}
	}
	return table.Flush()
}

func row(table io.Writer, node string, p proc.Status) {
	fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\n", p.Name, node, p.State, p.Restarts, time.Since(p.Since).Round(time.Second), p.LastExit)
}

func shimNote(shim bool) string {
	if !shim {
		return ""
	}
	return ", behind the prlimit shim: this kernel gives root no CAP_SYS_RESOURCE, and CRIU could not capture a non-root container without it"
}

func kindOf(n nodeStatus) string {
	if n.VM {
		return "virtual machine"
	}
	return "namespaces"
}

func diskOf(n nodeStatus) string {
	if n.Booted == nil {
		return fmt.Sprintf("%.1f GiB", float64(n.DiskBytes)/(1<<30))
	}
	return fmt.Sprintf("%.1f of %.1f GiB used", float64(n.Booted.Disk.Used)/(1<<30), float64(n.Booted.Disk.Size)/(1<<30))
}

func (c *command) kubeconfig() *cobra.Command {
	return &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the path of the administrator's kubeconfig: export KUBECONFIG=$(localcluster kubeconfig)",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cluster, _, err := c.existing()
			if err != nil {
				return err
			}
			_, err = fmt.Println(cluster.Kubeconfig())
			return err
		},
	}
}

func (c *command) kubectl() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl -- ARGS…",
		Short: "Run the cluster's kubectl as its administrator",
		RunE: func(_ *cobra.Command, args []string) error {
			cluster, state, err := c.existing()
			if err != nil {
				return err
			}
			environment := append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig())
			return syscall.Exec(filepath.Join(state.Parts, "bin/kubectl"), append([]string{"kubectl"}, args...), environment)
		},
	}
}

// nsenter returns the path of the program by which commands enter a node.
func nsenter() string {
	path, err := exec.LookPath("nsenter")
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return "/usr/bin/nsenter"
	}
	return path
}
