package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/transparent-checkpoint/operator/tests/cluster/lab"
)

func TestAdmissionWebhooksAreCalledThroughTheirService(t *testing.T) {
	c := cluster(t)
	ns := namespace(t, c)
	certificate, key := selfSigned(t, "webhook."+ns+".svc")
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "certificates"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key},
	}
	if _, err := c.Client.CoreV1().Secrets(ns).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	spec := serving()
	spec.Containers[0].Args = []string{"webhook", "-address=:8443"}
	spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "certificates", MountPath: "/certificates"}}
	spec.Volumes = []corev1.Volume{{Name: "certificates", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "certificates"}}}}
	start(t, c, ns, "webhook", spec)
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "webhook"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "webhook"}, Ports: []corev1.ServicePort{{Port: 8443}},
	}}
	if _, err := c.Client.CoreV1().Services(ns).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	register(t, c, ns, certificate)
	lab.Eventually(t, podPatience, "a new ConfigMap was seen by the webhook", func() error {
		wanted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "seen-"}}
		made, err := c.Client.CoreV1().ConfigMaps(ns).Create(t.Context(), wanted, metav1.CreateOptions{})
		if err == nil && made.Annotations["testapp/seen"] != "true" {
			err = fmt.Errorf("its annotations are %v", made.Annotations)
		}
		return err
	})
}

// register has the API server ask the webhook about every new ConfigMap of the namespace.
func register(t *testing.T, c *lab.Cluster, ns string, ca []byte) {
	t.Helper()
	path, port, sideEffects, fail := "/mutate", int32(8443), admissionv1.SideEffectClassNone, admissionv1.Fail
	configuration := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: ns}, Webhooks: []admissionv1.MutatingWebhook{{
		Name: "testapp.e2e.test", AdmissionReviewVersions: []string{"v1"}, SideEffects: &sideEffects, FailurePolicy: &fail,
		ClientConfig: admissionv1.WebhookClientConfig{
			CABundle: ca, Service: &admissionv1.ServiceReference{Namespace: ns, Name: "webhook", Path: &path, Port: &port},
		},
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: ns}},
		Rules: []admissionv1.RuleWithOperations{{
			Operations: []admissionv1.OperationType{admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
		}},
	}}}
	webhooks := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := webhooks.Create(t.Context(), configuration, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := webhooks.Delete(context.Background(), ns, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// selfSigned returns a certificate for a host, which is its own authority, and its key, both PEM.
func selfSigned(t *testing.T, host string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}
