package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/transparent-checkpoint/operator/internal/criu"
	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/image"
	"github.com/transparent-checkpoint/operator/tests/cluster/parts"
	"github.com/transparent-checkpoint/operator/tests/cluster/plane"
	"github.com/transparent-checkpoint/operator/tests/cluster/proc"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

const (
	lockPatience  = 2 * time.Minute
	startPatience = 10 * time.Second
	// lessCollection is the environment of all programs of a cluster that are written in Go, those of its nodes included: with two processors their garbage
	// collection costs more than its memory is worth. A run of tests took 7 percent less by it.
	lessCollection = "GOGC=400"
	readyPatience  = 3 * time.Minute
	// machinesPatience is for clusters with virtual machines: two were ready after 30 s on a processor that was free, and not after 3 min on one that was not.
	machinesPatience = 12 * time.Minute
)

func (c *command) up() *cobra.Command {
	var nodes, machines, older int
	var disk int64
	var cpu string
	command := &cobra.Command{
		Use:   "up",
		Short: "Bring a cluster up; what already runs is left alone, what was stopped is started",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if nodes < 0 || machines < 0 || nodes+machines < 1 || nodes+machines > spec.MaxNodes {
				return fmt.Errorf("--nodes is %d, --vm-nodes is %d; together they may be 1 to %d", nodes, machines, spec.MaxNodes)
			}
			if disk<<30 < spec.MinDiskBytes {
				return fmt.Errorf("--disk is %d; it may be 1 GiB or more", disk)
			}
			return c.bringUp(command.Context(), wish{nodes: nodes, machines: machines, older: older, cpu: cpu, disk: disk << 30})
		},
	}
	command.Flags().IntVar(&nodes, "nodes", spec.DefaultNodes, "how many nodes that share this machine's kernel; a cluster that has more keeps them")
	command.Flags().IntVar(&machines, "vm-nodes", 0, "how many more nodes that are virtual machines: systemd, cgroup v2, Debian's kernel; ten times slower")
	command.Flags().IntVar(&older, "older", 0, "how many of the nodes that are made now, the last ones, have containerd 2.1 instead of 2.4")
	command.Flags().StringVar(&cpu, "vm-cpu", spec.DefaultCPU, "the processor of each new virtual machine, as qemu's -cpu takes it: max, Haswell-noTSX, …")
	command.Flags().Int64Var(&disk, "disk", spec.DefaultDisk>>30, "size of the disk of each new node, GiB")
	return command
}

// wish is what a person asks `up` for.
type wish struct {
	nodes, machines int
	older           int    // of the new ones, with an older containerd
	cpu             string // of each new virtual machine
	disk            int64  // of each new node
}

// build makes the parts without a cluster, for whoever wants the waiting done beforehand.
func (c *command) build() *cobra.Command {
	var machine bool
	var architecture string
	command := &cobra.Command{Use: "build", Short: "Build everything that a cluster needs and print the folder that it lies in", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			builder, err := c.builder()
			if err != nil {
				return err
			}
			if architecture != "" {
				dir, err := builder.ForImages(command.Context(), architecture, criu.BuiltHome)
				if err != nil {
					return err
				}
				_, err = fmt.Println(dir)
				return err
			}
			if machine {
				dir, err := builder.Machine(command.Context())
				if err != nil {
					return err
				}
				_, err = fmt.Println(dir)
				return err
			}
			set, err := builder.Ensure(command.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Println(set)
			return err
		}}
	command.Flags().StringVar(&architecture, "for-images", "", "make only what the operator's images of this architecture have of Debian, and print its folder")
	command.Flags().BoolVar(&machine, "vm-image", false, "build only what virtual machines boot from, and print its folder")
	return command
}

func (c *command) parts(ctx context.Context) (parts.Set, error) {
	builder, err := c.builder()
	if err != nil {
		return "", err
	}
	return builder.Ensure(ctx)
}

func (c *command) builder() (parts.Builder, error) {
	cache, err := parts.DefaultCache()
	if err != nil {
		return parts.Builder{}, err
	}
	source := os.Getenv("LOCALCLUSTER_SOURCE")
	if source == "" {
		program, err := os.Executable()
		if err != nil {
			return parts.Builder{}, err
		}
		source = filepath.Join(filepath.Dir(program), "../tests/cluster/parts")
	}
	return parts.Builder{Source: source, Cache: cache, Log: c.log}, nil
}

// fewInotify is the number of inotify instances from which on several clusters can run side by side; one with two nodes takes about 25.
const fewInotify = 512

// warnOfInotify says beforehand why programs, CRIU among them, may not work later. The limit is root's on the whole machine.
func (c *command) warnOfInotify() {
	const setting = "fs.inotify.max_user_instances"
	data, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances")
	if err != nil {
		return
	}
	clusters, err := spec.List()
	if limit, parseErr := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && parseErr == nil && limit < fewInotify && len(clusters) > 2 {
		c.log.Printf("this machine has %d clusters and %s=%d; when that is used up, CRIU says \"Can't create inotify\". `sysctl %s=%d` raises it",
			len(clusters), setting, limit, setting, fewInotify)
	}
}

func (c *command) bringUp(ctx context.Context, w wish) error {
	cluster, err := c.cluster()
	if err != nil {
		return err
	}
	c.warnOfInotify()
	set, err := c.parts(ctx)
	if err != nil {
		return err
	}
	lock, err := host.Lock(cluster.LockFile(), lockPatience)
	if err != nil {
		return err
	}
	defer lock.Close()
	running := isRunning(cluster)
	state, err := c.plan(cluster, set, w, running)
	if err != nil {
		return err
	}
	if err := c.planMachines(ctx, cluster, state, w); err != nil {
		return err
	}
	if err := c.planOlder(ctx, cluster, state, w); err != nil {
		return err
	}
	if err := c.savePauseImage(cluster, set); err != nil {
		return err
	}
	if running {
		err = proc.Client{Socket: cluster.Socket()}.Call(ctx, "POST", "/reconcile", nil, nil)
		running = err == nil || !isGone(cluster)
	}
	if !running { // or it was dying when it was looked at
		err = c.startSupervisor(ctx, cluster, state)
	}
	if err != nil {
		return err
	}
	if err := c.awaitReady(ctx, cluster, state); err != nil {
		return err
	}
	c.log.Printf("cluster %q is up: %d nodes, KUBECONFIG=%s", cluster.Name, len(state.Nodes), cluster.Kubeconfig())
	return nil
}

func isRunning(cluster spec.Cluster) bool {
	_, err := host.ListenerPID(cluster.Socket())
	return err == nil
}

// isGone tells whether a supervisor that did not answer has ended, which may take a moment from its KILL on.
func isGone(cluster spec.Cluster) bool {
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if !isRunning(cluster) {
			return true
		}
	}
	return false
}

// plan writes down what the cluster is to be: new, or grown to the number of nodes. The built parts of a running cluster stay as
// they are.
func (c *command) plan(cluster spec.Cluster, set parts.Set, w wish, running bool) (*spec.State, error) {
	state, err := cluster.Load()
	if errors.Is(err, fs.ErrNotExist) {
		state, err = newState()
	}
	if err != nil {
		return nil, err
	}
	if !running {
		state.Parts = string(set)
	} else if state.Parts != string(set) {
		c.log.Printf("cluster %q runs from older parts; `down` and `up` take the new ones", cluster.Name)
	}
	state.Add(w.nodes, spec.Node{DiskBytes: w.disk})
	return state, cluster.Store(state)
}

// planMachines adds the virtual machines, and what they boot from if there are any.
func (c *command) planMachines(ctx context.Context, cluster spec.Cluster, state *spec.State, w wish) error {
	state.Add(w.machines, spec.Node{DiskBytes: w.disk, VM: true, CPU: w.cpu})
	if !state.HasMachines() || state.Machine != "" {
		return cluster.Store(state)
	}
	builder, err := c.builder()
	if err != nil {
		return err
	}
	machine, err := builder.Machine(ctx)
	if err != nil {
		return err
	}
	state.Machine = string(machine)
	return cluster.Store(state)
}

// planOlder gives the last of the nodes an older containerd, unless they are there already.
func (c *command) planOlder(ctx context.Context, cluster spec.Cluster, state *spec.State, w wish) error {
	if w.older == 0 {
		return nil
	}
	builder, err := c.builder()
	if err != nil {
		return err
	}
	dir, err := builder.OlderContainerd(ctx)
	if err != nil {
		return err
	}
	for i := max(0, len(state.Nodes)-w.older); i < len(state.Nodes); i++ {
		n := &state.Nodes[i]
		if _, err := os.Stat(cluster.NodeDir(n.Name)); errors.Is(err, fs.ErrNotExist) {
			n.Older = dir
		}
	}
	return cluster.Store(state)
}

func newState() (*spec.State, error) {
	secret := make([]byte, 20)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	return &spec.State{Created: time.Now().UTC(), S3AccessKey: "localcluster", S3SecretKey: hex.EncodeToString(secret)}, nil
}

func (c *command) savePauseImage(cluster spec.Cluster, set parts.Set) error {
	archive := filepath.Join(cluster.Images(), "pause.tar")
	if _, err := os.Stat(archive); err == nil {
		return nil
	}
	if err := os.MkdirAll(cluster.Images(), 0o755); err != nil {
		return err
	}
	return image.FromBinary(spec.PauseImage, filepath.Join(string(set), "pause/pause"), archive, image.Config{User: "65535:65535"})
}

// startSupervisor starts the cluster's process tree with its ways in from the machine, at the ports that it had before.
func (c *command) startSupervisor(ctx context.Context, cluster spec.Cluster, state *spec.State) error {
	if _, err := host.KillCgroup(cluster.Cgroup(), startPatience); err != nil {
		return err // of an earlier life
	}
	host.LoadModules()
	api, err := open(&state.APIPort)
	if err != nil {
		return err
	}
	defer api.Close()
	s3, err := open(&state.S3Port)
	if err != nil {
		return err
	}
	defer s3.Close()
	if err := errors.Join(cluster.Store(state), os.MkdirAll(cluster.Logs(), 0o755)); err != nil {
		return err
	}
	log, err := os.OpenFile(supervisorLog(cluster), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	supervisor := exec.Command("/proc/self/exe", "supervise", "--name="+cluster.Name)
	supervisor.Env = append(os.Environ(), lessCollection)
	supervisor.ExtraFiles = []*os.File{api, s3}
	supervisor.Stdout, supervisor.Stderr, supervisor.Dir = log, log, "/"
	supervisor.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: plane.Namespaces}
	if err := supervisor.Start(); err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = supervisor.Wait() // its log says why it ended
		close(ended)
	}()
	deadline := time.After(startPatience)
	for !isRunning(cluster) {
		select {
		case <-ended:
			return fmt.Errorf("the supervisor ended at once: %s", lastLine(supervisorLog(cluster)))
		case <-deadline:
			return fmt.Errorf("the supervisor does not answer after %s; see %s", startPatience, supervisorLog(cluster))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// open listens on 127.0.0.1, on the port if there is one and it is free, else on a new one, which it sets.
func open(port *int) (*os.File, error) {
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil && *port != 0 {
		listener, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	*port = listener.Addr().(*net.TCPAddr).Port
	return listener.(*net.TCPListener).File()
}

func supervisorLog(cluster spec.Cluster) string {
	return filepath.Join(cluster.Logs(), "supervisor.log")
}

func lastLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return lines[len(lines)-1]
}
