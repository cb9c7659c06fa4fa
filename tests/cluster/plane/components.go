package plane

import (
	"fmt"
	"path/filepath"

	"github.com/transparent-checkpoint/operator/tests/cluster/proc"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// components returns the programs of the control plane that need nobody but each other, in the order in which they are started.
func components(c spec.Cluster, state *spec.State) []proc.Component {
	bin := func(name string) string { return filepath.Join(state.Parts, "bin", name) }
	pki := func(name string) string { return filepath.Join(c.PKI(), name) }
	return []proc.Component{
		{Name: "etcd", Argv: []string{
			bin("etcd"), "--name=" + c.Name, "--data-dir=" + filepath.Join(c.Dir(), "etcd"),
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380", "--log-level=warn",
			"--unsafe-no-fsync", // the cluster outlives its processes, not the machine
		}},
		{Name: "kube-apiserver", Argv: []string{
			bin("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", "--advertise-address=" + spec.PlaneIP,
			fmt.Sprintf("--secure-port=%d", spec.APIPort), "--service-cluster-ip-range=" + spec.ServiceCIDR,
			"--tls-cert-file=" + pki("kube-apiserver.crt"), "--tls-private-key-file=" + pki("kube-apiserver.key"),
			"--client-ca-file=" + pki("ca.crt"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--allow-privileged", "--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + pki("service-accounts.key"), "--service-account-signing-key-file=" + pki("service-accounts.key"),
			"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
			"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
			"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--proxy-client-cert-file=" + pki("front-proxy-client.crt"),
			"--proxy-client-key-file=" + pki("front-proxy-client.key"),
			"--enable-aggregator-routing", // webhooks are called at their pods' addresses: no kube-proxy runs beside the API server
		}},
		{Name: "minio", Argv: []string{
			bin("minio"), "server", "--quiet", fmt.Sprintf("--address=%s:%d", spec.PlaneIP, spec.S3Port), "--console-address=127.0.0.1:9001",
			filepath.Join(c.Dir(), "minio"),
		}, Env: []string{
			"MINIO_ROOT_USER=" + state.S3AccessKey, "MINIO_ROOT_PASSWORD=" + state.S3SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "CI=true",
			"MINIO_API_DELETE_CLEANUP_INTERVAL=30s", // of what was deleted, which benchmarks do with more than the machine has room for
		}},
		{Name: "registry", Argv: []string{
			"/proc/self/exe", "registry", "--images=" + c.Images(), fmt.Sprintf("--address=%s:%d", spec.PlaneIP, spec.RegistryPort),
		}},
	}
}

// controllers returns the programs of the control plane that need the API server.
func controllers(c spec.Cluster, state *spec.State) []proc.Component {
	bin := func(name string) string { return filepath.Join(state.Parts, "bin", name) }
	pki := func(name string) string { return filepath.Join(c.PKI(), name) }
	client := func(user string) string { return clientConfiguration(c, user) }
	return []proc.Component{
		{Name: "kube-controller-manager", Argv: []string{
			bin("kube-controller-manager"), "--kubeconfig=" + client("system:kube-controller-manager"),
			"--authentication-kubeconfig=" + client("system:kube-controller-manager"), "--authorization-kubeconfig=" + client("system:kube-controller-manager"),
			"--bind-address=127.0.0.1", "--use-service-account-credentials", "--controllers=*,bootstrapsigner,tokencleaner",
			"--root-ca-file=" + pki("ca.crt"), "--service-account-private-key-file=" + pki("service-accounts.key"),
			"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"),
			"--kube-api-qps=200", "--kube-api-burst=400", // at the defaults its start alone takes five seconds
			"--leader-elect=false",
		}},
		{Name: "kube-scheduler", Argv: []string{
			bin("kube-scheduler"), "--kubeconfig=" + client("system:kube-scheduler"), "--authentication-kubeconfig=" + client("system:kube-scheduler"),
			"--authorization-kubeconfig=" + client("system:kube-scheduler"), "--bind-address=127.0.0.1", "--leader-elect=false",
		}},
	}
}
