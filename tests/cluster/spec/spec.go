// Package spec holds what every part of a local cluster must agree on: its names, its paths on the machine and its addresses.
// It does nothing and imports nothing of the other packages; start reading here.
package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Addresses are the same in every cluster: each has a network namespace of its own, which nothing outside can route to.
const (
	PlaneIP       = "10.10.0.1"
	NodeNetBits   = 24
	ServiceCIDR   = "10.96.0.0/16"
	KubernetesIP  = "10.96.0.1"
	PodCIDR       = "10.244.0.0/16"
	APIPort       = 6443
	S3Port        = 9000
	RegistryPort  = 5000
	Bridge        = "nodes"
	MaxNodes      = 32
	DefaultName   = "demo"
	DefaultNodes  = 2
	CgroupParent  = "localcluster"
	PlaneCgroup   = "plane"
	MinDiskBytes  = int64(1 << 30)
	DefaultDisk   = int64(10 << 30)
	PauseImage    = "localhost/pause:local"
	CRIUDirectory = "/opt/criu"
	// DefaultCPU is all that qemu's emulation can do: some of it this machine may lack.
	DefaultCPU = "max"
)

// Root is the folder below which every cluster keeps its files, one folder a cluster. LOCALCLUSTER_ROOT moves it.
func Root() string {
	if dir := os.Getenv("LOCALCLUSTER_ROOT"); dir != "" {
		return dir
	}
	return "/var/lib/localcluster"
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)

// Cluster names one local cluster. Its zero value is not usable; see Named.
type Cluster struct{ Name string }

// Named checks a cluster's name, which becomes part of paths, cgroups and host names.
func Named(name string) (Cluster, error) {
	if !validName.MatchString(name) {
		return Cluster{}, fmt.Errorf("--name is %q; it may be 1 to 30 lower-case letters, digits and dashes, and neither begin nor end with a dash", name)
	}
	return Cluster{Name: name}, nil
}

// List returns the clusters that have files on this machine, running or not.
func List() ([]Cluster, error) {
	entries, err := os.ReadDir(Root())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []Cluster
	for _, entry := range entries {
		if c, err := Named(entry.Name()); err == nil && entry.IsDir() {
			found = append(found, c)
		}
	}
	return found, nil
}

// The files of a cluster.
func (c Cluster) Dir() string        { return filepath.Join(Root(), c.Name) }
func (c Cluster) StateFile() string  { return filepath.Join(c.Dir(), "cluster.json") }
func (c Cluster) Socket() string     { return filepath.Join(c.Dir(), "supervisor.sock") }
func (c Cluster) Kubeconfig() string { return filepath.Join(c.Dir(), "kubeconfig") }
func (c Cluster) PKI() string        { return filepath.Join(c.Dir(), "pki") }
func (c Cluster) Logs() string       { return filepath.Join(c.Dir(), "logs") }
func (c Cluster) Images() string     { return filepath.Join(c.Dir(), "images") }

// LockFile lies beside the cluster's folder, not in it, so that `down` can hold it while the folder goes.
func (c Cluster) LockFile() string { return filepath.Join(Root(), "."+c.Name+".lock") }

// NodeDir holds one node: its disk image, its socket and what its init mounts before it leaves the machine's file tree.
func (c Cluster) NodeDir(node string) string { return filepath.Join(c.Dir(), "nodes", node) }

// NodeSocket is where the init of a node answers.
func (c Cluster) NodeSocket(node string) string { return filepath.Join(c.NodeDir(node), "init.sock") }

// SSHKey is what opens a virtual machine's root account, and SSHSocket what commands on it share a connection by.
func (c Cluster) SSHKey() string               { return filepath.Join(c.Dir(), "ssh", "id_ed25519") }
func (c Cluster) SSHSocket(node string) string { return filepath.Join(c.NodeDir(node), "ssh.sock") }

// Cgroup is the cluster's cgroup, relative to the mount point of each hierarchy. All processes of the cluster are below it.
func (c Cluster) Cgroup() string { return filepath.Join(CgroupParent, c.Name) }

// Node is one node as it was asked for. Index counts from 1 and gives the node its addresses.
type Node struct {
	Name      string `json:"name"`
	Index     int    `json:"index"`
	DiskBytes int64  `json:"diskBytes"`
	// VM says that it is a virtual machine, with a kernel and an init of its own.
	VM bool `json:"vm,omitempty"`
	// Older is a folder with programs that take the place of newer ones on it; empty is none.
	Older string `json:"older,omitempty"`
	// CPU is the processor of a virtual machine, as qemu's -cpu takes it; empty is DefaultCPU.
	CPU string `json:"cpu,omitempty"`
}

// IP is the node's address in the cluster's network.
func (n Node) IP() string { return fmt.Sprintf("10.10.0.%d", 10+n.Index) }

// MAC is the hardware address of a virtual machine.
func (n Node) MAC() string { return fmt.Sprintf("52:54:00:0a:0a:%02x", n.Index) }

// Link is the node's end at the bridge.
func (n Node) Link() string { return fmt.Sprintf("node%d", n.Index) }

// PodCIDR is the range that the node's pods get their addresses from.
func (n Node) PodCIDR() string { return fmt.Sprintf("10.244.%d.0/24", n.Index) }

// State is what a cluster was asked to be: written by `up`, read by everything else. It is the only record besides the disks.
type State struct {
	Created time.Time `json:"created"`
	Nodes   []Node    `json:"nodes"`
	// APIPort and S3Port are the ports on 127.0.0.1 through which the machine reaches the cluster.
	APIPort int `json:"apiPort"`
	S3Port  int `json:"s3Port"`
	// S3AccessKey and S3SecretKey are MinIO's root credentials, made anew for each cluster.
	S3AccessKey string `json:"s3AccessKey"`
	S3SecretKey string `json:"s3SecretKey"`
	// Parts is the folder of the built parts that this cluster runs from.
	Parts string `json:"parts"`
	// Machine is the folder of what its virtual machines boot from; empty while it has none.
	Machine string `json:"machine,omitempty"`
}

// Node returns the node of that name.
func (s *State) Node(name string) (Node, error) {
	var names []string
	for _, node := range s.Nodes {
		if node.Name == name {
			return node, nil
		}
		names = append(names, node.Name)
	}
	return Node{}, fmt.Errorf("node is %q; it may be one of %q", name, names)
}

// Add adds nodes of a kind until there are that many of it. All nodes are counted together: worker-1, worker-2, ….
func (s *State) Add(count int, like Node) {
	has := 0
	for _, node := range s.Nodes {
		if node.VM == like.VM {
			has++
		}
	}
	for range count - has {
		like.Index = len(s.Nodes) + 1
		like.Name = fmt.Sprintf("worker-%d", like.Index)
		s.Nodes = append(s.Nodes, like)
	}
}

// HasMachines tells whether one of the nodes is a virtual machine.
func (s *State) HasMachines() bool {
	return slices.ContainsFunc(s.Nodes, func(n Node) bool { return n.VM })
}

// Load reads the cluster's state; fs.ErrNotExist says that there is no such cluster.
func (c Cluster) Load() (*State, error) {
	data, err := os.ReadFile(c.StateFile())
	if err != nil {
		return nil, fmt.Errorf("cluster %q: %w", c.Name, err)
	}
	state := &State{}
	if err := json.Unmarshal(data, state); err != nil {
		return nil, fmt.Errorf("read %s: %w", c.StateFile(), err)
	}
	return state, nil
}

// Store writes the cluster's state in one step.
func (c Cluster) Store(state *State) error {
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(c.StateFile(), append(data, '\n'), 0o600)
}

// WriteFile replaces a file in one step, so that a reader sees the old content or the new one; its folder is made if need be.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, data, mode); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
