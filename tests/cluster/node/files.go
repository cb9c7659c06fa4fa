package node

import (
	"bytes"
	"embed"
	"fmt"
	"path"
	"strings"
	"text/template"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// Keys are a node's own certificates and configurations, all PEM or YAML.
type Keys struct {
	CA, Certificate, Key        []byte
	Kubeconfig, ProxyKubeconfig []byte
}

//go:embed files
var templates embed.FS

// where each template of the folder files belongs on a node.
var where = map[string]string{
	"containerd.toml":  "etc/containerd/config.toml",
	"registry.toml":    "etc/containerd/certs.d/_default/hosts.toml",
	"network.conflist": "etc/cni/net.d/10-nodes.conflist",
	"kubelet.yaml":     "etc/kubernetes/kubelet.yaml",
	"kube-proxy.yaml":  "etc/kubernetes/kube-proxy.yaml",
	"hosts":            "etc/hosts",
}

// Traits are in what nodes differ by the kernel and the init that they have.
type Traits struct {
	CanRaiseOOMScore bool
	CgroupV2         bool
	Systemd          bool
}

// HostTraits are those of a node that shares this machine's kernel.
func HostTraits() (Traits, error) {
	canRaiseOOMScore, err := host.HasCapability(unix.CAP_SYS_RESOURCE)
	if err != nil {
		return Traits{}, err
	}
	hierarchies, err := host.Hierarchies()
	return Traits{CanRaiseOOMScore: canRaiseOOMScore, CgroupV2: len(hierarchies) == 1 && hierarchies[0].V2}, err
}

// Files returns, by path below the root, what makes a fresh machine this node of its cluster.
func Files(n spec.Node, keys Keys, traits Traits) (map[string][]byte, error) {
	values := map[string]any{
		"Name": n.Name, "IP": n.IP(), "PodCIDR": n.PodCIDR(), "PodsCIDR": spec.PodCIDR, "PauseImage": spec.PauseImage,
		"Registry":            fmt.Sprintf("http://%s:%d", spec.PlaneIP, spec.RegistryPort),
		"RestrictOOMScoreAdj": !traits.CanRaiseOOMScore,
		"CgroupV2":            traits.CgroupV2,
		"Systemd":             traits.Systemd,
	}
	files := map[string][]byte{
		"etc/hostname":                          []byte(n.Name + "\n"),
		"etc/resolv.conf":                       []byte("# no name server: nothing outside the cluster can be reached\n"),
		"etc/kubernetes/ca.crt":                 keys.CA,
		"etc/kubernetes/kubelet.crt":            keys.Certificate,
		"etc/kubernetes/kubelet.key":            keys.Key,
		"etc/kubernetes/kubelet.kubeconfig":     keys.Kubeconfig,
		"etc/kubernetes/proxy.kubeconfig":       keys.ProxyKubeconfig,
		"etc/containerd/conf.d/.placeholder":    nil,
		"etc/kubernetes/manifests/.placeholder": nil,
	}
	for name, target := range where {
		parsed, err := template.ParseFS(templates, path.Join("files", name))
		if err != nil {
			return nil, err
		}
		var text bytes.Buffer
		if err := parsed.Execute(&text, values); err != nil {
			return nil, fmt.Errorf("%s of node %q: %w", target, n.Name, err)
		}
		files[target] = []byte(strings.TrimLeft(text.String(), "\n"))
	}
	return files, nil
}
