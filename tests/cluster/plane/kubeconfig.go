package plane

import (
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

const (
	planeIP      = spec.PlaneIP
	kubernetesIP = spec.KubernetesIP
)

// fileOf turns a user's name into the name of its files.
func fileOf(user string) string {
	return strings.TrimPrefix(strings.ReplaceAll(user, ":", "-"), "system-")
}

// kubeconfig returns a configuration, with its keys inside, for a user of the API server at that address.
func kubeconfig(cluster, server, user string, ca, certificate, key []byte) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user}
	config.CurrentContext = cluster
	return clientcmd.Write(*config)
}

// writeKubeconfig writes the configuration of a user whose certificate is part of the control plane's PKI.
func writeKubeconfig(c spec.Cluster, server, user, path string) error {
	var pems [3][]byte
	for i, name := range []string{"ca.crt", fileOf(user) + ".crt", fileOf(user) + ".key"} {
		data, err := os.ReadFile(filepath.Join(c.PKI(), name))
		if err != nil {
			return err
		}
		pems[i] = data
	}
	data, err := kubeconfig(c.Name, server, user, pems[0], pems[1], pems[2])
	if err != nil {
		return err
	}
	return spec.WriteFile(path, data, 0o600)
}

// clientConfiguration is where the kubeconfig of a program of the control plane lies.
func clientConfiguration(c spec.Cluster, user string) string {
	return filepath.Join(c.Dir(), "clients", fileOf(user)+".kubeconfig")
}
