package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/transparent-checkpoint/operator/internal/inspect"
)

// certificateFor is one that vouches for itself.
func certificateFor(t *testing.T, host string, end time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: end.Add(-10 * 365 * 24 * time.Hour), NotAfter: end, DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestTheCertificateIsChecked(t *testing.T) {
	const host = "checkpoint-manager.ours.svc"
	now := time.Now()
	good := certificateFor(t, host, now.Add(365*24*time.Hour))
	old := certificateFor(t, host, now.Add(-time.Hour))
	nearlyOld := certificateFor(t, host, now.Add(24*time.Hour))
	other := certificateFor(t, "elsewhere.ours.svc", now.Add(365*24*time.Hour))
	for name, test := range map[string]struct {
		certificate, authority []byte
		level                  inspect.Level
		says                   string
	}{
		"as it has to be":            {good, good, inspect.OK, "the API server trusts it, until "},
		"none yet":                   {nil, good, inspect.Fail, "has no certificate in tls.crt"},
		"out of date":                {old, old, inspect.Fail, "out of date since"},
		"not renewed":                {nearlyOld, nearlyOld, inspect.Warn, "it is not renewed"},
		"of another authority":       {good, other, inspect.Fail, "does not trust it (caBundle)"},
		"for another service's name": {other, other, inspect.Fail, "does not trust it (caBundle)"},
	} {
		t.Run(name, func(t *testing.T) {
			hook := admissionregistrationv1.WebhookClientConfig{CABundle: test.authority}
			c := fake.NewClientBuilder().WithScheme(scheme()).WithObjects(
				&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ours", Name: certSecret}, Data: map[string][]byte{corev1.TLSCertKey: test.certificate}},
				&admissionregistrationv1.MutatingWebhookConfiguration{
					ObjectMeta: metav1.ObjectMeta{Name: webhookConfig}, Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: "pods", ClientConfig: hook}},
				},
				&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhookConfig}},
			).Build()
			got := checkCertificate(t.Context(), c, client.ObjectKey{Namespace: "ours", Name: certSecret}, now)
			if got.Level != test.level || !strings.Contains(got.Says, test.says) || (got.Mend == "") != (got.Level == inspect.OK) {
				t.Errorf("it says %+v, want %s, %q", got, test.level, test.says)
			}
		})
	}
}

func TestProgressIsToldNowAndThen(t *testing.T) {
	var out bytes.Buffer
	say := tell(&out)
	for n := range int64(1000) {
		say(n, 1000)
	}
	if got := out.String(); got != inspect.ProgressPrefix+"0 1000\n" {
		t.Errorf("it says %q", got)
	}
}
