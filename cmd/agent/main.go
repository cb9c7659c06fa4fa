// Command agent is the checkpoint-agent, a DaemonSet: see node/agent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/cmd/internal/location"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/operator"
	"github.com/transparent-checkpoint/operator/node/agent"
	"github.com/transparent-checkpoint/operator/node/install"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/limit"
)

type options struct {
	node, namespace, root, home, from, criu, socket, metrics, health string
	pod                                                              client.ObjectKey
	install, remove, requireEncryptedDisk                            bool

	uploadsAtOnce                      int
	uploadBandwidth, downloadBandwidth string
	diskBudget                         string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "inspect" {
		inspectAndExit(os.Args[2:])
		return
	}
	o := options{}
	o.addTo(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New())
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// addTo adds the flags by which they are said.
func (o *options) addTo(flags *flag.FlagSet) {
	flags.StringVar(&o.node, "node", os.Getenv("NODE_NAME"), "name of the node (default: the environment's NODE_NAME)")
	flags.StringVar(&o.namespace, "namespace", os.Getenv("OPERATOR_NAMESPACE"), "the manager's namespace, which has the Secrets (default: OPERATOR_NAMESPACE)")
	flags.StringVar(&o.pod.Name, "pod", os.Getenv("POD_NAME"), "name of the agent's own pod, if it is one (default: POD_NAME)")
	flags.StringVar(&o.pod.Namespace, "pod-namespace", os.Getenv("POD_NAMESPACE"), "that pod's namespace (default: POD_NAMESPACE)")
	flags.StringVar(&o.root, "root", "/", "where the node's file system is mounted")
	flags.BoolVar(&o.install, "install", true, "install the runtime on the node, and restart containerd when its configuration changed by that")
	flags.BoolVar(&o.requireEncryptedDisk, "require-encrypted-disk", false,
		"keep labelled pods from nodes where dm-crypt does not encrypt the disk of /var/lib/checkpoint")
	flags.StringVar(&o.from, "from", "/opt/checkpoint-image", "folder with what is installed: bin/checkpoint-runtime, criu/")
	flags.StringVar(&o.criu, "criu-directory", "", "folder in which a node may have a criu of its own, to be used there instead of the one that is installed")
	flags.StringVar(&o.home, "home", capture.DefaultHome,
		"folder of the node in which the runtime is installed: where /opt cannot be written to, another one in which programs can be run")
	flags.StringVar(&o.socket, "cri-socket", "",
		"socket of the container runtime on the node (default: the first that answers of containerd's, that of k3s and RKE2, and CRI-O's)")
	flags.BoolVar(&o.remove, "remove", false, "take the installation off the node, and end")
	flags.StringVar(&o.metrics, "metrics", ":9436", "address of the metrics; 0 for none")
	flags.StringVar(&o.health, "health", ":9437", "address of /healthz and /readyz; 0 for none")
	flags.IntVar(&o.uploadsAtOnce, "uploads-at-once", agent.DefaultUploadsAtOnce,
		"how many states are uploaded at once, those of pods that are gone before all others")
	flags.StringVar(&o.uploadBandwidth, "upload-bandwidth", "0", "bytes a second, as 100Mi, that all uploads of the node may send; 0 for no limit")
	flags.StringVar(&o.downloadBandwidth, "download-bandwidth", "0", "bytes a second, as 100Mi, that all restores of the node may receive; 0 for no limit")
	flags.StringVar(&o.diskBudget, "disk-budget", agent.DefaultDiskBudget,
		"what may be kept on the node's disk, as 50Gi or 20%; above that states go from it that the bucket has")
}

func (o options) check() error {
	for name, value := range map[string]string{"--node (or NODE_NAME)": o.node, "--namespace (or OPERATOR_NAMESPACE)": o.namespace} {
		if value == "" {
			return fmt.Errorf("%s is empty; it may be a name", name)
		}
	}
	return nil
}

// maxUploadsAtOnce is where more would only be in each other's way.
const maxUploadsAtOnce = 64

// limits checks what the node may do at once.
func (o options) limits() (*limit.Limits, error) {
	if o.uploadsAtOnce < 1 || o.uploadsAtOnce > maxUploadsAtOnce {
		return nil, fmt.Errorf("--uploads-at-once is %d; it may be 1 to %d", o.uploadsAtOnce, maxUploadsAtOnce)
	}
	upload, err := bandwidth("--upload-bandwidth", o.uploadBandwidth)
	if err != nil {
		return nil, err
	}
	download, err := bandwidth("--download-bandwidth", o.downloadBandwidth)
	if err != nil {
		return nil, err
	}
	return limit.New(upload, download), nil
}

// bandwidth returns what a flag says in bytes a second.
func bandwidth(name, text string) (int64, error) {
	quantity, err := resource.ParseQuantity(text)
	if bytes := quantity.Value(); err == nil && (bytes == 0 || bytes >= limit.Least) {
		return bytes, nil
	}
	return 0, fmt.Errorf("%s is %q; it may be a quantity of bytes a second, as 100Mi, from %dKi on, or 0 for no limit", name, text, limit.Least>>10)
}

func run(ctx context.Context, o options) error {
	if err := o.check(); err != nil {
		return err
	}
	limits, err := o.limits()
	if err != nil {
		return err
	}
	budget, err := agent.ParseDiskBudget(o.diskBudget)
	if err != nil {
		return fmt.Errorf("--disk-budget %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	if o.remove {
		return o.removeNow(ctx, scheme)
	}
	mgr, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Scheme:                 scheme,
		Cache:                  cacheOptions(o.node, o.namespace),
		Client:                 client.Options{Cache: &client.CacheOptions{DisableFor: uncached()}},
		Metrics:                metricsserver.Options{BindAddress: o.metrics},
		HealthProbeBindAddress: o.health,
	})
	if err != nil {
		return err
	}
	node := capture.Node{Root: o.root, HomeDir: o.home}
	a := &agent.Agent{
		Node: node, NodeName: o.node, Namespace: o.namespace, Pod: o.pod, Client: mgr.GetClient(), Everywhere: mgr.GetAPIReader(),
		Recorder: mgr.GetEventRecorder("checkpoint-agent"), Settle: agent.SettleOnNode(node), CaptureLive: agent.CaptureOnNode(node), Now: time.Now,
		UploadsAtOnce: o.uploadsAtOnce, DiskBudget: budget,
		Open: func(ctx context.Context, l *v1alpha1.CheckpointStorageLocation, secret map[string][]byte) (storage.Store, error) {
			store, err := location.Open(ctx, l, secret)
			if err != nil {
				return nil, err
			}
			return limits.Store(store), nil
		},
	}
	installer := o.installer(node, mgr.GetClient(), mgr.GetAPIReader())
	installer.Recorder = mgr.GetEventRecorder("checkpoint-agent")
	if o.install {
		a.IsOver = installer.IsOver
	}
	if err := a.Setup(mgr); err != nil {
		return err
	}
	if o.install {
		if err := mgr.Add(manager.RunnableFunc(installer.Run)); err != nil {
			return err
		}
	}
	if err := mgr.AddHealthzCheck("alive", healthz.Ping); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("alive", healthz.Ping); err != nil {
		return err
	}
	err = mgr.Start(a.Stay(ctx))
	if o.install {
		err = errors.Join(err, removeWhenOver(installer))
	}
	return err
}

func (o options) installer(node capture.Node, c client.Client, everywhere client.Reader) *install.Installer {
	return &install.Installer{
		Node: node, NodeName: o.node, Pod: o.pod, Client: c, Everywhere: everywhere, From: o.from, CRIUDirectory: o.criu, Host: install.Host{Socket: o.socket},
		RequireEncryptedDisk: o.requireEncryptedDisk,
	}
}

// removePatience is how long the removal may take, the restart of the container runtime among it.
const removePatience = 5 * time.Minute

// removeWhenOver takes the installation off the node when no other agent takes over from this one, which has ended.
func removeWhenOver(installer *install.Installer) error {
	ctx, cancel := context.WithTimeout(context.Background(), removePatience)
	defer cancel()
	if !installer.IsOver(ctx) {
		return nil
	}
	return installer.Remove(ctrl.LoggerInto(ctx, ctrl.Log))
}

// removeNow is all that an agent does which was called for that.
func (o options) removeNow(ctx context.Context, scheme *runtime.Scheme) error {
	ctx, cancel := context.WithTimeout(ctx, removePatience)
	defer cancel()
	c, err := client.New(ctrl.GetConfigOrDie(), client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	return o.installer(capture.Node{Root: o.root, HomeDir: o.home}, c, c).Remove(ctrl.LoggerInto(ctx, ctrl.Log))
}

// cacheOptions have the agent hold the pods of its node, the Checkpoints that ask for captures of those, and the operator's ConfigMap, and no others.
func cacheOptions(node, namespace string) cache.Options {
	return cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:          {Field: fields.OneTermEqualSelector("spec.nodeName", node)},
			&v1alpha1.Checkpoint{}: {Label: labels.SelectorFromSet(labels.Set{keys.SourceNode: lineage.NodeLabel(node)})},
			&corev1.ConfigMap{}: {Namespaces: map[string]cache.Config{
				namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", operator.ConfigMap)},
			}},
		},
	}
}

// uncached are the kinds that are read from the API server: they are of other nodes, or change too often to be held by every agent.
func uncached() []client.Object {
	return []client.Object{
		&v1alpha1.Checkpoint{}, &v1alpha1.RestorePolicy{}, &v1alpha1.CheckpointStorageLocation{}, &corev1.Secret{}, &corev1.Node{},
	}
}
