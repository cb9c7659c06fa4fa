package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Installer brings the runtime onto the node, and takes the label that sends labelled pods there away when it finds it broken.
type Installer struct {
	Node     capture.Node
	NodeName string
	Client   client.Client
	Recorder events.EventRecorder
	// From is the folder in the agent's image that holds what is installed: bin/checkpoint-runtime, lib/shared-ipc.so and criu/.
	From string
	// CRIUDirectory is a folder in which a node may have a criu of its own; where it is empty, or there is none, that of the image is used.
	CRIUDirectory string
	// Host is how the node's own programs are found and called.
	Host Host
}

// How often the installation is looked at again, and how long the container runtime may take to come back.
const (
	checkInterval = time.Minute
	retryInterval = 5 * time.Second
	servePatience = time.Minute
)

// Run installs, and looks after it, for as long as the context lives.
func (i *Installer) Run(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName("install")
	last := ""
	for {
		wait := checkInterval
		err := i.install(ctrl.LoggerInto(ctx, log))
		if err != nil {
			wait = retryInterval
			log.Error(err, "install")
		}
		if labelErr := i.label(ctx, err == nil); labelErr != nil {
			wait = retryInterval
			log.Error(labelErr, "label the node")
		}
		if err != nil && err.Error() != last {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: i.NodeName, UID: types.UID(i.NodeName)}}
			node.APIVersion, node.Kind = "v1", "Node"
			i.Recorder.Eventf(node, nil, corev1.EventTypeWarning, "InstallFailed", "Install", "%s", v1alpha1.EventNote(err.Error()))
		}
		last = ""
		if err != nil {
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// install brings everything to its place, and does nothing where it is there.
func (i *Installer) install(ctx context.Context) error {
	home := i.Node.Home()
	for _, file := range []string{"lib/shared-ipc.so", "bin/checkpoint-runtime"} {
		target := filepath.Join(home, file)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := copyWhenOther(filepath.Join(i.From, file), target); err != nil {
			return fmt.Errorf("install the runtime: %w", err)
		}
	}
	containerd, err := i.Host.Containerd()
	if err != nil {
		return err
	}
	criu := i.CRIUDirectory
	if criu == "" || !containerd.sees(filepath.Join(criu, "criu")) {
		criu = "/opt/checkpoint/criu"
		if err := copyFolder(filepath.Join(i.From, "criu"), filepath.Join(home, "criu")); err != nil {
			return fmt.Errorf("install CRIU: %w", err)
		}
	}
	handler, err := containerd.Handler(ctx)
	if err != nil {
		return err
	}
	config := capture.RuntimeConfig{SchemaVersion: capture.SchemaVersion, Runtime: handler.Runtime, CRIUDirectory: criu}
	if old, err := capture.ReadRuntimeConfig(home); err != nil || old.Runtime != config.Runtime || old.CRIUDirectory != config.CRIUDirectory {
		if err := config.Write(home); err != nil {
			return err
		}
	}
	changed, err := writeWhenOther(filepath.Join(i.Node.Root, dropIn), handler.DropIn)
	if err != nil {
		return err
	}
	stale, err := containerd.OlderThan(filepath.Join(i.Node.Root, dropIn))
	if err != nil {
		return err
	}
	if changed || stale || !containerd.Serves(ctx) {
		if err := containerd.WouldServe(ctx); err != nil {
			return err
		}
		ctrl.LoggerFrom(ctx).Info("containerd is restarted to serve the handler", "changed", changed, "stale", stale)
		if err := containerd.Restart(ctx); err != nil {
			return err
		}
	}
	return i.awaitServed(ctx)
}

func (i *Installer) awaitServed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, servePatience)
	defer cancel()
	for {
		containerd, err := i.Host.Containerd()
		if err == nil && containerd.Serves(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("containerd does not serve the handler %s after %s", keys.RuntimeClass, servePatience), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// label gives the node the label that sends labelled pods to it, or takes it away.
func (i *Installer) label(ctx context.Context, works bool) error {
	node := &corev1.Node{}
	if err := i.Client.Get(ctx, client.ObjectKey{Name: i.NodeName}, node); err != nil {
		return err
	}
	if has := node.Labels[keys.NodeReady] == keys.True; has == works {
		return nil
	}
	value := "null"
	if works {
		value = `"` + keys.True + `"`
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, keys.NodeReady, value)
	return i.Client.Patch(ctx, node, client.RawPatch(types.MergePatchType, []byte(patch)))
}
