package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/transparent-checkpoint/operator/cmd/internal/location"
	"github.com/transparent-checkpoint/operator/cmd/internal/selfcheck"
	"github.com/transparent-checkpoint/operator/controllers/inspection"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/version"
	"github.com/transparent-checkpoint/operator/manifests/rbac"
)

// inspectMemory is what an inspection keeps itself to, in bytes: it runs beside the manager, in the limit of its container.
const inspectMemory = 128 << 20

// inspectWords is what an inspection can be asked for.
const inspectWords = "doctor, du [NAMESPACE], verify NAMESPACE CHECKPOINT, logs NAMESPACE CHECKPOINT [restore] or export NAMESPACE CHECKPOINT [CONTAINER]"

// inspectAndExit answers kubectl checkpoint, which calls this program in the container of a manager with the manager's own arguments and then some words. It
// writes JSON, or an archive, and ends the program with 1 when that did not succeed.
func inspectAndExit(args []string) {
	var o options
	flags := flag.NewFlagSet("inspect", flag.ExitOnError)
	o.addTo(flags)
	_ = flags.Parse(args) // it ends the program by itself
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	debug.SetMemoryLimit(inspectMemory)
	if err := o.inspect(ctrl.SetupSignalHandler(), flags.Args(), os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (o options) inspect(ctx context.Context, words []string, out, errOut io.Writer) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 50, 100 // a person waits
	c, err := client.New(config, client.Options{Scheme: scheme()})
	if err != nil {
		return err
	}
	i := &inspection.Inspector{Reader: c, Namespace: o.namespace, Open: location.Open}
	word := slices.Concat(words, make([]string, 4))
	of := client.ObjectKey{Namespace: word[1], Name: word[2]}
	var answer any
	switch {
	case word[0] == "doctor" && len(words) == 1:
		answer = o.checks(ctx, config, c)
	case word[0] == "du" && len(words) <= 2:
		answer, err = i.Usage(ctx, word[1])
	case word[0] == "verify" && len(words) == 3:
		answer, err = i.Verify(ctx, of, tell(errOut))
	case word[0] == "logs" && (len(words) == 3 || len(words) == 4 && word[3] == "restore"):
		answer, err = i.Logs(ctx, of, word[3] != "")
	case word[0] == "export" && (len(words) == 3 || len(words) == 4):
		sent, err := i.Export(ctx, of, word[3], out)
		if err != nil {
			return err
		}
		text, err := json.Marshal(sent)
		fmt.Fprintf(errOut, "%s%s\n", inspect.SentPrefix, text)
		return err
	default:
		return fmt.Errorf("inspect %q is not known; it may be %s", words, inspectWords)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(answer)
}

// tell writes how far it is, now and then.
func tell(out io.Writer) func(done, total int64) {
	last := time.Time{}
	return func(done, total int64) {
		if now := time.Now(); now.Sub(last) >= time.Second/2 {
			last = now
			fmt.Fprintf(out, "%s%d %d\n", inspect.ProgressPrefix, done, total)
		}
	}
}

// checks are what a manager finds out about itself.
func (o options) checks(ctx context.Context, config *rest.Config, c client.Client) inspect.Answer {
	return inspect.Answer{Version: version.Version, Checks: []inspect.Check{
		selfcheck.Rights(ctx, c, rbac.Manager, map[string]string{"checkpoint-system": o.namespace}),
		selfcheck.Clock(ctx, config),
		checkCertificate(ctx, c, client.ObjectKey{Namespace: o.namespace, Name: certSecret}, time.Now()),
	}}
}

// renewal is how long before its end the certificate has to have been renewed.
const renewal = 30 * 24 * time.Hour

// checkCertificate looks at the certificate with which the manager answers the API server, and whether the API server trusts it.
func checkCertificate(ctx context.Context, c client.Client, secret client.ObjectKey, now time.Time) inspect.Check {
	check := inspect.Check{Name: "webhook certificate", Level: inspect.OK}
	fail := func(err error) inspect.Check {
		check.Level, check.Says = inspect.Fail, err.Error()
		check.Mend = fmt.Sprintf(`have it made anew: kubectl patch secret -n %[1]s %[2]s --type merge -p '{"data":null}' && `+
			"kubectl rollout restart -n %[1]s deployment/checkpoint-manager", secret.Namespace, secret.Name)
		return check
	}
	held := &corev1.Secret{}
	if err := c.Get(ctx, secret, held); err != nil {
		return fail(err)
	}
	block, _ := pem.Decode(held.Data[corev1.TLSCertKey])
	if block == nil {
		return fail(fmt.Errorf("the Secret %s has no certificate in %s", secret, corev1.TLSCertKey))
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fail(fmt.Errorf("the Secret %s: %w", secret, err))
	}
	if now.After(certificate.NotAfter) {
		return fail(fmt.Errorf("it is out of date since %s", certificate.NotAfter.Format(time.RFC3339)))
	}
	if err := trusted(ctx, c, certificate, fmt.Sprintf("%s.%s.svc", serviceName, secret.Namespace)); err != nil {
		return fail(err)
	}
	check.Says = "the API server trusts it, until " + certificate.NotAfter.Format(time.DateOnly)
	if now.Add(renewal).After(certificate.NotAfter) {
		check.Level, check.Says = inspect.Warn, "it is not renewed, and ends "+certificate.NotAfter.Format(time.RFC3339)
		check.Mend = "see the log of the manager that leads: kubectl logs -n " + secret.Namespace + " deployment/checkpoint-manager"
	}
	return check
}

// trusted tells why a webhook would not take the certificate for that of the manager's service.
func trusted(ctx context.Context, c client.Client, certificate *x509.Certificate, host string) error {
	mutating, validating := &admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}
	name := client.ObjectKey{Name: webhookConfig}
	if err := errors.Join(c.Get(ctx, name, mutating), c.Get(ctx, name, validating)); err != nil {
		return err
	}
	authorities := map[string][]byte{}
	for _, w := range mutating.Webhooks {
		authorities[w.Name] = w.ClientConfig.CABundle
	}
	for _, w := range validating.Webhooks {
		authorities[w.Name] = w.ClientConfig.CABundle
	}
	for webhook, authority := range authorities {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(authority)
		if _, err := certificate.Verify(x509.VerifyOptions{DNSName: host, Roots: roots}); err != nil {
			return fmt.Errorf("the webhook %s does not trust it (caBundle): %w", webhook, err)
		}
	}
	return nil
}
