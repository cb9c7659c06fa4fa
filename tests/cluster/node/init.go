package node

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/proc"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// Cgroup is the node's cgroup on the machine; inside the node it is the root.
func Cgroup(c spec.Cluster, n spec.Node) string { return filepath.Join(c.Cgroup(), n.Name) }

// ProvisionDir holds the files for the first boot of a node, as Files returns them.
func ProvisionDir(c spec.Cluster, n spec.Node) string {
	return filepath.Join(c.NodeDir(n.Name), "provision")
}

// Path is where programs are looked for on a node.
const Path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ExecCgroup is where commands on a node run that are no part of it, below the cgroup of the node.
const ExecCgroup = "exec"

// Status is what a node says of itself.
type Status struct {
	Components []proc.Status `json:"components"`
	Disk       Disk          `json:"disk"`
}

// Disk is the node's disk, in bytes.
type Disk struct {
	Size int64 `json:"size"`
	Used int64 `json:"used"`
}

// Init is process 1 of a node. Its first call joins the node's cgroup and runs itself again in a cgroup namespace that has it as its
// root; the second mounts the node's root, sets up its network, and then only supervises.
func Init(c spec.Cluster, name string, inCgroup bool) error {
	state, err := c.Load()
	if err != nil {
		return err
	}
	n, err := state.Node(name)
	if err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return errors.New("the init of a node is process 1 of a PID namespace; the supervisor starts it")
	}
	if !inCgroup {
		return enterCgroup(Cgroup(c, n))
	}
	logs, listener, err := openDoors(c, n)
	if err != nil {
		return err
	}
	if err := mountRoot(c, state, n); err != nil {
		return err
	}
	if err := setUpNetwork(n); err != nil {
		return err
	}
	group := proc.NewGroup(logs, proc.NewReaper())
	for _, component := range components(n) {
		group.Add(component)
	}
	return (&http.Server{Handler: handler(group), ReadHeaderTimeout: 10 * time.Second}).Serve(listener)
}

// enterCgroup replaces the process by itself, one step further. The namespace is the calling thread's, which exec makes the only one.
func enterCgroup(path string) error {
	runtime.LockOSThread()
	if err := host.JoinCgroup(path); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare cgroup namespace: %w", err)
	}
	return unix.Exec("/proc/self/exe", append(os.Args, "--in-cgroup"), os.Environ())
}

// openDoors opens what leads out of the node, as long as the machine's files can still be reached.
func openDoors(c spec.Cluster, n spec.Node) (*os.Root, net.Listener, error) {
	logDir := filepath.Join(c.Logs(), n.Name)
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return nil, nil, err
	}
	logs, err := os.OpenRoot(logDir)
	if err != nil {
		return nil, nil, err
	}
	if err := os.Remove(c.NodeSocket(n.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	listener, err := net.Listen("unix", c.NodeSocket(n.Name))
	return logs, listener, err
}

func handler(group *proc.Group) http.Handler {
	mux := group.Handler()
	mux.HandleFunc("POST /start-all", func(w http.ResponseWriter, _ *http.Request) {
		group.StartAll()
		proc.WriteResult(w, nil)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		disk, err := diskUse()
		if err != nil {
			proc.WriteResult(w, err)
			return
		}
		proc.WriteJSON(w, Status{Components: group.Statuses(), Disk: disk})
	})
	return mux
}

func diskUse() (Disk, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/var/lib", &fs); err != nil {
		return Disk{}, err
	}
	return Disk{Size: int64(fs.Blocks) * fs.Bsize, Used: int64(fs.Blocks-fs.Bfree) * fs.Bsize}, nil
}

// components are the programs of a node. The kubelet dies until containerd answers, and is started again.
func components(n spec.Node) []proc.Component {
	env := []string{Path, "HOME=/root"}
	return []proc.Component{
		{Name: "containerd", Env: env, Argv: []string{"/usr/local/bin/containerd"}},
		{Name: "kubelet", Env: env, Argv: []string{
			"/usr/local/bin/kubelet", "--config=/etc/kubernetes/kubelet.yaml", "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
			"--hostname-override=" + n.Name, "--node-ip=" + n.IP(), "--v=2",
		}},
		{Name: "kube-proxy", Env: env, Argv: []string{"/usr/local/bin/kube-proxy", "--config=/etc/kubernetes/kube-proxy.yaml"}},
	}
}
