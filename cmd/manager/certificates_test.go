package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func TestTheCertificateComesFromTheSecret(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: certSecret}}
	kept := fake.NewClientBuilder().WithScheme(scheme()).WithObjects(secret).Build()
	c := &certificates{secret: client.ObjectKeyFromObject(secret), directory: filepath.Join(t.TempDir(), "new"), reader: kept}
	if err := c.read(t.Context()); err == nil {
		t.Error("an empty Secret is as good as a certificate")
	}
	if _, err := c.get(nil); err == nil {
		t.Error("there is a certificate before there is one")
	}
	secret.Data = newCertificate(t)
	if err := kept.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if err := c.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pair, err := c.get(nil); err != nil || pair == nil {
		t.Errorf("%v, %v", pair, err)
	}
	if _, err := os.Stat(filepath.Join(c.directory, corev1.TLSCertKey)); err != nil {
		t.Errorf("the rotator looks for it: %v", err)
	}
}

func newCertificate(t *testing.T) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"x"}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}
