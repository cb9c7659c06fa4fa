package plane

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/proc"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
	"github.com/transparent-checkpoint/operator/tests/cluster/vm"
)

// Namespaces are those that the supervisor is to be started in (clone(2)).
const Namespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC

// Supervisor runs one cluster.
type Supervisor struct {
	cluster spec.Cluster
	plane   *proc.Group
	nodes   *proc.Group
	started sync.Mutex // held while the control plane comes up
}

// Run is the whole life of a supervisor. The listeners are the machine's ends of the ways to the API server and to MinIO; they were
// made outside, since the supervisor has no part in the machine's network.
func Run(c spec.Cluster, api, s3 net.Listener) error {
	if os.Getpid() != 1 {
		return errors.New("the supervisor is process 1 of a PID namespace; `up` starts it")
	}
	state, err := c.Load()
	if err != nil {
		return err
	}
	if err := prepare(c); err != nil {
		return err
	}
	if err := writeConfigurations(c, state); err != nil {
		return err
	}
	logs, err := os.OpenRoot(c.Logs())
	if err != nil {
		return err
	}
	reaper := proc.NewReaper()
	s := &Supervisor{cluster: c, plane: proc.NewGroup(logs, reaper), nodes: proc.NewGroup(logs, reaper)}
	go forward(api, fmt.Sprintf("%s:%d", spec.PlaneIP, spec.APIPort))
	go forward(s3, fmt.Sprintf("%s:%d", spec.PlaneIP, spec.S3Port))
	listener, err := listen(c.Socket())
	if err != nil {
		return err
	}
	go func() {
		if err := s.Reconcile(); err != nil {
			log.Printf("start: %v", err)
		}
	}()
	return (&http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}).Serve(listener)
}

// prepare makes the namespaces usable that the supervisor was born into.
func prepare(c spec.Cluster) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := host.JoinCgroup(filepath.Join(c.Cgroup(), spec.PlaneCgroup)); err != nil {
		return err
	}
	for _, dir := range []string{c.Logs(), c.Images(), filepath.Join(c.Dir(), "nodes")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := setUpNetwork(); err != nil {
		return err
	}
	return ensurePKI(c.PKI())
}

// writeConfigurations writes the kubeconfigs of the control plane and, last, that of the user.
func writeConfigurations(c spec.Cluster, state *spec.State) error {
	inside := fmt.Sprintf("https://%s:%d", spec.PlaneIP, spec.APIPort)
	for _, user := range []string{"system:kube-controller-manager", "system:kube-scheduler"} {
		if err := writeKubeconfig(c, inside, user, clientConfiguration(c, user)); err != nil {
			return err
		}
	}
	return writeKubeconfig(c, fmt.Sprintf("https://127.0.0.1:%d", state.APIPort), "admin", c.Kubeconfig())
}

// listen opens the socket in one step over whatever an earlier life left there.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// Reconcile makes everything run that the cluster's state file asks for, including what was stopped by request.
func (s *Supervisor) Reconcile() error {
	s.started.Lock()
	defer s.started.Unlock()
	state, err := s.cluster.Load()
	if err != nil {
		return err
	}
	s.plane.StartAll()
	s.nodes.StartAll()
	for _, component := range components(s.cluster, state) {
		s.plane.Add(component)
		if component.Name == "etcd" {
			awaitListener("127.0.0.1:2379", 20*time.Second)
		}
	}
	if slices.ContainsFunc(state.Nodes, func(n spec.Node) bool { return n.VM }) { // once, before machines are made side by side
		if _, err := vm.EnsureKey(s.cluster); err != nil {
			return err
		}
	}
	for _, n := range state.Nodes {
		s.nodes.Add(nodeComponent(s.cluster, state, n))
	}
	awaitAPI(s.cluster, 20*time.Second)
	for _, component := range controllers(s.cluster, state) {
		s.plane.Add(component)
	}
	for _, n := range state.Nodes {
		if n.VM { // systemd does
			continue
		}
		// A node that is just booting starts its parts by itself.
		_ = proc.Client{Socket: s.cluster.NodeSocket(n.Name)}.Call(context.Background(), http.MethodPost, "/start-all", nil, nil)
	}
	return nil
}

// awaitAPI waits until the API server knows the roles of the control plane; those who came earlier would be turned away, and end.
func awaitAPI(c spec.Cluster, patience time.Duration) {
	config, err := clientcmd.BuildConfigFromFlags("", clientConfiguration(c, "system:kube-scheduler"))
	if err != nil {
		log.Printf("wait for the API server: %v", err)
		return
	}
	config.Timeout = time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Printf("wait for the API server: %v", err)
		return
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(context.Background()); err == nil {
			return
		}
	}
}

// awaitListener waits until something listens; if nothing does in that time, those who need it will find out themselves.
func awaitListener(address string, patience time.Duration) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if connection, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			_ = connection.Close()
			return
		}
	}
}
