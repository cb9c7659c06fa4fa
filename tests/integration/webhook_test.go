package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	webhookadmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/transparent-checkpoint/operator/admission"
	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// admitJobs answers the API server's questions about Jobs of a namespace from this process, under the conditions of manifests/webhook. The number
// is that of the questions so far.
func admitJobs(t *testing.T, ns string) *atomic.Int64 {
	t.Helper()
	asked := &atomic.Int64{}
	handler, err := webhookadmission.StandaloneWebhook(
		&webhook.Admission{Handler: admission.Jobs{Decoder: webhookadmission.NewDecoder(clientgoscheme.Scheme)}}, webhookadmission.StandaloneOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc(admission.JobsPath, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		handler.ServeHTTP(w, r)
	})
	listener := listenBesideTheAPIServer(t)
	certificate, ca := selfSigned(t)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })

	configuration := jobsWebhook(t)
	configuration.Name = ns
	hook := &configuration.Webhooks[0]
	hook.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": ns}}
	hook.ClientConfig = admissionv1.WebhookClientConfig{CABundle: ca, URL: new(fmt.Sprintf("https://%s%s", listener.Addr(), admission.JobsPath))}
	webhooks := shared.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := webhooks.Create(t.Context(), configuration, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := webhooks.Delete(context.Background(), ns, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return asked
}

// jobsWebhook is what manifests/webhook says of Jobs.
func jobsWebhook(t *testing.T) *admissionv1.MutatingWebhookConfiguration {
	t.Helper()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "manifests/webhook/webhook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	configuration := &admissionv1.MutatingWebhookConfiguration{}
	if err := yaml.UnmarshalStrict(text, configuration); err != nil {
		t.Fatal(err)
	}
	for _, hook := range configuration.Webhooks {
		if service := hook.ClientConfig.Service; service != nil && service.Path != nil && *service.Path == admission.JobsPath {
			configuration.Webhooks = []admissionv1.MutatingWebhook{hook}
			return configuration
		}
	}
	t.Fatal("manifests/webhook has nothing for Jobs")
	return nil
}

// listenBesideTheAPIServer listens where the API server can connect to: in the network of the cluster's supervisor, out of which no way leads to
// this process. A socket stays in the network that it was made in.
func listenBesideTheAPIServer(t *testing.T) net.Listener {
	t.Helper()
	pid, err := host.ListenerPID(spec.Cluster{Name: clusterName}.Socket())
	if err != nil {
		t.Fatal(err)
	}
	network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	var listener net.Listener
	listening := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with this
		err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			listener, err = net.Listen("tcp", "127.0.0.1:0")
		}
		listening <- err
	}()
	if err := <-listening; err != nil {
		t.Fatal(err)
	}
	return listener
}

// selfSigned returns a certificate for this machine, and as PEM the authority that it has: itself.
func selfSigned(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
