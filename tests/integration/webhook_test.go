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
	"slices"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kinds "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	webhookadmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"github.com/transparent-checkpoint/operator/admission"
	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

// admitJobs answers the API server's questions about Jobs of a namespace from this process, under the conditions of manifests/webhook. The number
// is that of the questions so far.
func admitJobs(t *testing.T, ns string) *atomic.Int64 {
	t.Helper()
	return admit(t, ns, admission.JobsPath, admission.Jobs{Decoder: decoder(), Namespaces: namespaces(t)})
}

// admitPods does the same for pods.
func admitPods(t *testing.T, ns string) *atomic.Int64 {
	t.Helper()
	return admit(t, ns, admission.PodsPath, admission.Pods{Decoder: decoder(), Namespaces: namespaces(t), Policies: reader(t)})
}

func decoder() webhookadmission.Decoder { return webhookadmission.NewDecoder(clientgoscheme.Scheme) }

// reader reads as controllers do, but from no cache.
func reader(t *testing.T) ctrlclient.Client {
	t.Helper()
	scheme := kinds.NewScheme()
	for _, add := range []func(*kinds.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	made, err := ctrlclient.New(shared.Config, ctrlclient.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func namespaces(t *testing.T) admission.Namespaces {
	t.Helper()
	r := reader(t)
	return admission.Namespaces{Cached: r, Live: r, Operator: "checkpoint-system"}
}

// admit has a handler answer what manifests/webhook asks at a path.
func admit(t *testing.T, ns, path string, answers webhookadmission.Handler) *atomic.Int64 {
	t.Helper()
	asked, at := serve(t, path, answers)
	configuration := hooksAt(t, path)
	configuration.Name = ns
	for i := range configuration.Webhooks {
		hook := &configuration.Webhooks[i]
		hook.NamespaceSelector, hook.ClientConfig = only(ns, hook.NamespaceSelector), at
	}
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

// only narrows a selector to one namespace.
func only(ns string, selector *metav1.LabelSelector) *metav1.LabelSelector {
	if selector == nil {
		selector = &metav1.LabelSelector{}
	}
	selector.MatchLabels = map[string]string{corev1.LabelMetadataName: ns}
	return selector
}

// serve has a handler answer at a path, and returns how often it was asked so far, and how the API server reaches it.
func serve(t *testing.T, path string, answers webhookadmission.Handler) (*atomic.Int64, admissionv1.WebhookClientConfig) {
	t.Helper()
	asked := &atomic.Int64{}
	handler, err := webhookadmission.StandaloneWebhook(&webhook.Admission{Handler: answers}, webhookadmission.StandaloneOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		handler.ServeHTTP(w, r)
	})
	listener, err := shared.Listen("127.0.0.1:0") // where the API server can connect to
	if err != nil {
		t.Fatal(err)
	}
	certificate, ca := selfSigned(t)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	return asked, admissionv1.WebhookClientConfig{CABundle: ca, URL: new(fmt.Sprintf("https://%s%s", listener.Addr(), path))}
}

// hooksAt is what of manifests/webhook asks at a path.
func hooksAt(t *testing.T, path string) *admissionv1.MutatingWebhookConfiguration {
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
	configuration.Webhooks = slices.DeleteFunc(configuration.Webhooks, func(hook admissionv1.MutatingWebhook) bool {
		return *hook.ClientConfig.Service.Path != path
	})
	if len(configuration.Webhooks) == 0 {
		t.Fatalf("manifests/webhook asks nothing at %s", path)
	}
	return configuration
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
