package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	webhookadmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/transparent-checkpoint/operator/admission"
	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/cmd/internal/location"
	"github.com/transparent-checkpoint/operator/controllers"
	"github.com/transparent-checkpoint/operator/controllers/operatorconfig"
	"github.com/transparent-checkpoint/operator/controllers/retention"
	"github.com/transparent-checkpoint/operator/internal/keys"
	operatorsays "github.com/transparent-checkpoint/operator/internal/operator"
)

type options struct {
	namespace, health, metrics string
	webhookPort                int
	leaderElection             bool
	logging                    zap.Options
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "uninstall" {
		uninstall(os.Args[2:])
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "inspect" {
		inspectAndExit(os.Args[2:])
		return
	}
	var o options
	o.addTo(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&o.logging)))
	keepBelow(os.Getenv("MEMORY_LIMIT"))
	if err := run(o); err != nil {
		ctrl.Log.Error(err, "the manager ends")
		os.Exit(1)
	}
}

// addTo adds the flags by which they are said.
func (o *options) addTo(flags *flag.FlagSet) {
	flags.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "the operator's own namespace; default is POD_NAMESPACE")
	flags.StringVar(&o.health, "health-address", ":8081", "where healthz and readyz are")
	flags.StringVar(&o.metrics, "metrics-address", ":8080", "where metrics are; 0 is nowhere")
	flags.IntVar(&o.webhookPort, "webhook-port", 9443, "the port on which the API server asks about pods and Jobs")
	flags.BoolVar(&o.leaderElection, "leader-elect", true, "let one replica alone run the controllers")
	o.logging.BindFlags(flags)
}

// keepBelow has garbage be collected sooner as memory comes near the limit of the container, in bytes: beyond it there is only the end. Whoever sets GOMEMLIMIT
// knows better.
func keepBelow(limit string) {
	const percent = 85 // the rest is for what is not of Go's heap
	if bytes, err := strconv.ParseInt(limit, 10, 64); err == nil && bytes > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(bytes / 100 * percent)
	}
}

func run(o options) error {
	if o.namespace == "" {
		return errors.New("--namespace is empty; it may be the namespace that the operator runs in")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	keeper := &certificates{secret: client.ObjectKey{Namespace: o.namespace, Name: certSecret}, directory: certDirectory()}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme(),
		Metrics:                       server.Options{BindAddress: o.metrics},
		HealthProbeBindAddress:        o.health,
		LeaderElection:                o.leaderElection,
		LeaderElectionID:              "checkpoint-manager",
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
		Cache:                         cacheOptions(o.namespace),
		WebhookServer: webhook.NewServer(webhook.Options{
			Port:    o.webhookPort,
			TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.MinVersion, c.GetCertificate = tls.VersionTLS12, keeper.get }},
		}),
	})
	if err != nil {
		return err
	}
	if err := keeper.addTo(manager); err != nil {
		return err
	}
	err = watchFor(manager, &v1alpha1.Checkpoint{}, &v1alpha1.RestorePolicy{}, &v1alpha1.CheckpointPolicy{}, &corev1.Node{}, &corev1.Pod{},
		&corev1.ConfigMap{}, &corev1.Namespace{})
	if err != nil {
		return err
	}
	said := &operatorconfig.Source{Reader: manager.GetClient(), Namespace: o.namespace}
	hooks := manager.GetWebhookServer()
	decoder := webhookadmission.NewDecoder(manager.GetScheme())
	namespaces := admission.Namespaces{Cached: manager.GetCache(), Live: manager.GetAPIReader(), Operator: o.namespace}
	hooks.Register(admission.PodsPath, &webhook.Admission{Handler: admission.Pods{
		Decoder:    decoder,
		Placement:  &admission.Placement{Reader: manager.GetClient(), Now: time.Now},
		Policies:   manager.GetCache(),
		Namespaces: namespaces,
		Allows:     said.Allows,
	}})
	hooks.Register(admission.JobsPath, &webhook.Admission{Handler: admission.Jobs{Decoder: decoder, Namespaces: namespaces, Allows: said.Allows}})
	hooks.Register(admission.BeginningsPath, &webhook.Admission{Handler: admission.Beginnings{
		Reviews: manager.GetClient(), Checkpoints: manager.GetClient(), Namespaces: namespaces,
	}})
	err = errors.Join(
		manager.AddHealthzCheck("ping", healthz.Ping),
		manager.AddReadyzCheck("webhook", hooks.StartedChecker()),
		controllers.SetUp(manager, controllers.Options{Namespace: o.namespace, Open: location.Open, Config: said}),
	)
	if err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}

// watchFor has the cache hold what admission reads, also in a replica that does not lead, before the first pod comes.
func watchFor(manager ctrl.Manager, kinds ...client.Object) error {
	for _, kind := range kinds {
		if _, err := manager.GetCache().GetInformer(context.Background(), kind, cache.BlockUntilSynced(false)); err != nil {
			return err
		}
	}
	return nil
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err) // two kinds of one name: a mistake in the program
		}
	}
	return s
}

// slim leaves of the owners of pods what retention looks at: how they are called, what became of them, and which revision they are. Whoever needs
// more of one reads it past the cache.
func slim(object any) (any, error) {
	o, isObject := object.(client.Object)
	if !isObject {
		return object, nil
	}
	o.SetManagedFields(nil)
	o.SetLabels(nil)
	annotations := map[string]string{}
	if revision, found := o.GetAnnotations()[retention.Revision]; found {
		annotations[retention.Revision] = revision
	}
	o.SetAnnotations(annotations)
	switch o := object.(type) {
	case *batchv1.Job:
		o.Spec = batchv1.JobSpec{}
	case *appsv1.ReplicaSet:
		o.Spec = appsv1.ReplicaSetSpec{Replicas: o.Spec.Replicas}
	case *appsv1.Deployment:
		o.Spec = appsv1.DeploymentSpec{Replicas: o.Spec.Replicas}
	}
	return object, nil
}

// cacheOptions keep the manager small, and away from what is none of its business: pods without our label and Secrets of others.
func cacheOptions(namespace string) cache.Options {
	labelled, err := labels.NewRequirement(keys.CheckpointMode, selection.Exists, nil)
	if err != nil {
		panic(err) // the name of our own label
	}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:    {Label: labels.NewSelector().Add(*labelled)},
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{namespace: {}}},
			&corev1.ConfigMap{}: {Namespaces: map[string]cache.Config{
				namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", operatorsays.ConfigMap)},
			}},

			&batchv1.Job{}:       {Transform: slim},
			&appsv1.ReplicaSet{}: {Transform: slim},
			&appsv1.Deployment{}: {Transform: slim},
		},
	}
}
