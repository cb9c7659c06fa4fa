package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Names that the manifests have, too.
const (
	certSecret    = "checkpoint-webhook-cert"
	serviceName   = "checkpoint-manager"
	webhookConfig = "transparent-checkpoint"
)

var certificateExpires = prometheus.NewGauge(prometheus.GaugeOpts{
	Name: "checkpoint_webhook_certificate_expiry_timestamp_seconds",
	Help: "When the certificate of the webhook expires, in seconds since 1970. It is renewed long before; 0 as long as there is none.",
})

func init() { metrics.Registry.MustRegister(certificateExpires) }

// How often the Secret is read: until there is a certificate, and to notice that it was renewed.
const (
	untilThere   = time.Second
	untilRenewed = time.Minute
)

// certificates brings the webhook's certificate from the Secret in which the rotator keeps it to the server. kubelet would bring it into a
// mounted folder as well, but up to 90 s after a new installation, in which pods would be made without us.
type certificates struct {
	secret    client.ObjectKey
	directory string
	reader    client.Reader
	current   atomic.Pointer[tls.Certificate]
}

// certDirectory is where the rotator looks for what it has made before it says that it is ready.
func certDirectory() string { return filepath.Join(os.TempDir(), "webhook-certificate") }

// addTo adds the rotator, which makes and renews the certificates and writes their authority into the webhook's configuration.
func (c *certificates) addTo(manager ctrl.Manager) error {
	c.reader = manager.GetAPIReader()
	if err := manager.Add(c); err != nil {
		return err
	}
	return rotator.AddRotator(manager, &rotator.CertRotator{
		SecretKey:      c.secret,
		CertDir:        c.directory,
		CAName:         "checkpoint-webhook",
		CAOrganization: "transparent-checkpoint",
		DNSName:        fmt.Sprintf("%s.%s.svc", serviceName, c.secret.Namespace),
		IsReady:        make(chan struct{}),
		Webhooks:       []rotator.WebhookInfo{{Name: webhookConfig, Type: rotator.Mutating}, {Name: webhookConfig, Type: rotator.Validating}},
		FieldOwner:     "checkpoint-manager-certificates",
	})
}

// NeedLeaderElection is false: every replica answers.
func (c *certificates) NeedLeaderElection() bool { return false }

// Start reads the Secret until the context ends.
func (c *certificates) Start(ctx context.Context) error {
	for {
		wait := untilRenewed
		if err := c.read(ctx); err != nil {
			ctrl.LoggerFrom(ctx).V(1).Info("there is no certificate for the webhook yet", "reason", err.Error())
			wait = untilThere
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (c *certificates) read(ctx context.Context) error {
	secret := &corev1.Secret{}
	if err := c.reader.Get(ctx, c.secret, secret); err != nil {
		return err
	}
	certificate, key := secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
	if len(certificate) == 0 {
		return fmt.Errorf("the Secret %s has none", c.secret)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	c.current.Store(&pair)
	if pair.Leaf != nil {
		certificateExpires.Set(float64(pair.Leaf.NotAfter.Unix()))
	}
	if err := os.MkdirAll(c.directory, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.directory, corev1.TLSCertKey), certificate, 0o600)
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := c.current.Load(); pair != nil {
		return pair, nil
	}
	return nil, errors.New("there is no certificate yet")
}
