package plane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/node"
	"github.com/transparent-checkpoint/operator/tests/cluster/proc"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
	"github.com/transparent-checkpoint/operator/tests/cluster/vm"
)

const nodeNamespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC

// nodeComponent is a node as a program to keep running. Stopping it is a power cut.
func nodeComponent(c spec.Cluster, state *spec.State, n spec.Node) proc.Component {
	if n.VM {
		return machineComponent(c, state, n)
	}
	return initComponent(c, n)
}

// machineComponent is a node that is a virtual machine.
func machineComponent(c spec.Cluster, state *spec.State, n spec.Node) proc.Component {
	return proc.Component{
		Name: n.Name, Argv: vm.Argv(c, n, state.Machine), PowerCut: true, EndsItself: true,
		Before: func() error {
			return errors.Join(vm.MakeDisk(c, state, n, func() (map[string][]byte, error) { return machineFiles(c, n) }), vm.Plug(n))
		},
	}
}

// machineFiles are those that make a fresh virtual machine a node of this cluster.
func machineFiles(c spec.Cluster, n spec.Node) (map[string][]byte, error) {
	keys, err := nodeKeys(c, n)
	if err != nil {
		return nil, err
	}
	files, err := node.Files(n, keys, node.Traits{CanRaiseOOMScore: true, CgroupV2: true, Systemd: true})
	if err != nil {
		return nil, err
	}
	files["root/.ssh/authorized_keys"], err = vm.EnsureKey(c)
	return files, err
}

// initComponent is a node that shares this machine's kernel: its init, with namespaces of its own.
func initComponent(c spec.Cluster, n spec.Node) proc.Component {
	return proc.Component{
		Name:       n.Name,
		Argv:       []string{"/proc/self/exe", "node-init", "--name=" + c.Name, "--node=" + n.Name},
		Cloneflags: nodeNamespaces,
		PowerCut:   true,
		Before: func() error {
			if _, err := host.KillCgroup(node.Cgroup(c, n), 10*time.Second); err != nil {
				return err
			}
			return provision(c, n)
		},
		Started: func(pid int) error { return connectNode(n, pid) },
		Killed: func() { // what is frozen does not end by the KILL of the node's init, which waits for it
			_, _ = host.KillCgroup(node.Cgroup(c, n), 10*time.Second) // before the next start it is an error
		},
	}
}

// provision writes the files that make a fresh machine a node of this cluster. They are copied to the node's disk at its first
// boot; the folder appears whole or not at all.
func provision(c spec.Cluster, n spec.Node) error {
	dir := node.ProvisionDir(c, n)
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	keys, err := nodeKeys(c, n)
	if err != nil {
		return err
	}
	traits, err := node.HostTraits()
	if err != nil {
		return err
	}
	files, err := node.Files(n, keys, traits)
	if err != nil {
		return err
	}
	partial := dir + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	for path, data := range files {
		if err := spec.WriteFile(filepath.Join(partial, path), data, 0o600); err != nil {
			return err
		}
	}
	return os.Rename(partial, dir)
}

// nodeKeys issues what a node proves itself with: to the API server as system:node:NAME, to the API server's calls as NAME.
func nodeKeys(c spec.Cluster, n spec.Node) (node.Keys, error) {
	ca, err := loadAuthority(c.PKI(), "ca")
	if err != nil {
		return node.Keys{}, err
	}
	server := fmt.Sprintf("https://%s:%d", spec.PlaneIP, spec.APIPort)
	certificate, key, err := ca.issue(identity{
		name: "system:node:" + n.Name, groups: []string{"system:nodes"}, hosts: []string{n.Name, n.IP(), "127.0.0.1"},
	})
	if err != nil {
		return node.Keys{}, err
	}
	kubelet, err := kubeconfig(c.Name, server, "system:node:"+n.Name, ca.pem, certificate, key)
	if err != nil {
		return node.Keys{}, err
	}
	proxyCertificate, proxyKey, err := ca.issue(identity{name: "system:kube-proxy"})
	if err != nil {
		return node.Keys{}, err
	}
	proxy, err := kubeconfig(c.Name, server, "system:kube-proxy", ca.pem, proxyCertificate, proxyKey)
	if err != nil {
		return node.Keys{}, err
	}
	return node.Keys{CA: ca.pem, Certificate: certificate, Key: key, Kubeconfig: kubelet, ProxyKubeconfig: proxy}, nil
}
