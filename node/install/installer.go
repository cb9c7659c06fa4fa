package install

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	// Node names the folder in which the runtime is installed. Its Root is the agent's own.
	Node     capture.Node
	NodeName string
	// Pod is the agent's own pod; empty where it is none. By it the DaemonSet is known with which the installation goes.
	Pod    client.ObjectKey
	Client client.Client
	// Everywhere reads from the API server, not from a cache.
	Everywhere client.Reader
	Recorder   events.EventRecorder
	// From is the folder in the agent's image that holds what is installed: bin/checkpoint-runtime, lib/shared-ipc.so and criu/.
	From string
	// CRIUDirectory is a folder in which a node may have a criu of its own; where it is empty, or there is none, that of the image is used.
	CRIUDirectory string
	// RequireEncryptedDisk keeps a node from being ready on whose disk states would lie as they are.
	RequireEncryptedDisk bool
	// Host is how the node's own programs are found and called.
	Host Host

	// find and inUse are those of the node, but in tests.
	find  func(context.Context) (containerRuntime, error)
	inUse func(dir string) bool
	// sys is /sys but in tests.
	sys string
	// daemonSet is that of the agent's pod, once it is known.
	daemonSet string
	// works is true from the first time on that everything was found in its place.
	works bool
	// last is the error that was told last.
	last string
	// restarts is how often the container runtime was restarted in vain, at last at restartedAt.
	restarts    int
	restartedAt time.Time
}

// How often the installation is looked at again, and how long the container runtime may take to come back.
const (
	checkInterval = time.Minute
	retryInterval = 5 * time.Second
	servePatience = time.Minute
)

// Run installs, and looks after it, for as long as the context lives.
func (i *Installer) Run(ctx context.Context) error {
	ctx = ctrl.LoggerInto(ctx, ctrl.LoggerFrom(ctx).WithName("install"))
	for {
		wait := checkInterval
		if !i.once(ctx) {
			wait = retryInterval
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// once installs, says on the node what came of it, and tells whether all is well.
func (i *Installer) once(ctx context.Context) bool {
	log := ctrl.LoggerFrom(ctx)
	i.learnDaemonSet(ctx)
	handlers, repaired, err := i.install(ctx)
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		log.Error(err, "install")
		handlers = nil
	}
	labelErr := i.label(ctx, handlers)
	if labelErr != nil {
		log.Error(labelErr, "label the node")
	}
	if len(repaired) > 0 {
		log.Info("written", "files", repaired)
		if i.works {
			note := v1alpha1.EventNote("somebody else has changed what belongs to the runtime of checkpoints, and it was written anew: " + strings.Join(repaired, ", "))
			i.Recorder.Eventf(i.object(), nil, corev1.EventTypeWarning, "InstallRepaired", "Install", "%s", note)
		}
	}
	if err != nil && err.Error() != i.last {
		i.Recorder.Eventf(i.object(), nil, corev1.EventTypeWarning, "InstallFailed", "Install", "%s",
			v1alpha1.EventNote("no labelled pod is sent to this node until the runtime is installed, which is tried again: "+err.Error()))
	}
	i.last, i.works = "", i.works || err == nil
	measure(err == nil && labelErr == nil)
	if err != nil {
		i.last = err.Error()
	}
	return err == nil && labelErr == nil
}

// object is the node, as events name it.
func (i *Installer) object() *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: i.NodeName, UID: types.UID(i.NodeName)}}
	node.APIVersion, node.Kind = "v1", "Node"
	return node
}

// runtime returns the container runtime of the node.
func (i *Installer) runtime(ctx context.Context) (containerRuntime, error) {
	if i.find != nil {
		return i.find(ctx)
	}
	return i.Host.find(ctx)
}

// home is the folder of the installation on the node.
func (i *Installer) home() string { return cmp.Or(i.Node.HomeDir, capture.DefaultHome) }

// nodeAt is the node as it is seen through the root of its container runtime.
func (i *Installer) nodeAt(runtime containerRuntime) capture.Node {
	return capture.Node{Root: runtime.root(), HomeDir: i.Node.HomeDir}
}

// install brings everything to its place, and does nothing where it is there. It returns the handlers that are served, and what it had to write.
func (i *Installer) install(ctx context.Context) (handlers []handler, written []string, err error) {
	runtime, err := i.runtime(ctx)
	if err != nil {
		return nil, nil, err
	}
	node := i.nodeAt(runtime)
	if i.RequireEncryptedDisk {
		if err := isEncrypted(filepath.Dir(node.CapturesRoot()), cmp.Or(i.sys, "/sys")); err != nil {
			return nil, nil, fmt.Errorf("--require-encrypted-disk: %w", err)
		}
	}
	if err := isWritable(node.Home()); err != nil {
		return nil, nil, fmt.Errorf("%s cannot be written to: %w; --home may name another folder of the node", i.home(), err)
	}
	handlers, err = runtime.handlers(ctx, i.home())
	if err != nil {
		return nil, nil, err
	}
	var variants []string
	for _, h := range handlers {
		if h.variant != "" {
			variants = append(variants, h.variant)
		}
	}
	p := placement{from: i.From, root: runtime.root(), home: i.home()}
	if written, err = p.place(variants); err != nil {
		return nil, written, fmt.Errorf("install the runtime: %w", err)
	}
	if err := i.writeRuntimeConfig(runtime, handlers); err != nil {
		return nil, written, err
	}
	if err := unretire(node); err != nil {
		return nil, written, err
	}
	runtime, changed, err := i.configure(ctx, runtime, handlers)
	written = append(written, changed...)
	if err != nil {
		return nil, written, err
	}
	p.root = runtime.root()
	inUse := i.inUse
	if inUse == nil {
		inUse = processesUse
	}
	return handlers, written, p.sweep(inUse)
}

// isWritable makes a folder, and tries to write there.
func isWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	probe := filepath.Join(dir, ".probe")
	return errors.Join(os.WriteFile(probe, nil, 0o600), os.Remove(probe))
}

// writeRuntimeConfig tells the runtime what it works with.
func (i *Installer) writeRuntimeConfig(runtime containerRuntime, handlers []handler) error {
	home := i.nodeAt(runtime).Home()
	config := capture.RuntimeConfig{SchemaVersion: capture.SchemaVersion, CRIUDirectory: i.CRIUDirectory, Runtimes: map[string]string{}}
	if config.CRIUDirectory == "" || !isProgram(runtime.root(), filepath.Join(config.CRIUDirectory, "criu")) {
		config.CRIUDirectory = filepath.Join(i.home(), "criu")
	}
	for _, h := range handlers {
		if h.variant == "" {
			config.Runtime = h.below
		} else {
			config.Runtimes[h.variant] = h.below
		}
	}
	old, err := capture.ReadRuntimeConfig(home)
	if err == nil && old.Runtime == config.Runtime && old.CRIUDirectory == config.CRIUDirectory && maps.Equal(old.Runtimes, config.Runtimes) {
		return nil
	}
	return config.Write(home)
}

// configure has the container runtime serve the handlers. It is restarted only when its configuration was changed for that, and not before it is
// known that it would serve them: else the configuration is taken back. It returns the process that serves them, and what was changed.
func (i *Installer) configure(ctx context.Context, runtime containerRuntime, handlers []handler) (_ containerRuntime, changed []string, err error) {
	if err := i.mayRestart(); err != nil {
		return runtime, nil, err
	}
	c := configuration{root: runtime.root(), home: i.nodeAt(runtime).Home()}
	targets, err := runtime.targets(ctx, c, handlers)
	if err != nil {
		return nil, nil, err
	}
	changed, restart, err := c.write(targets)
	if err != nil {
		return runtime, changed, err
	}
	if !restart {
		if served, err := serves(ctx, runtime, handlers); served || err != nil {
			return runtime, changed, err
		}
	}
	if err := runtime.wouldServe(ctx, handlers); err != nil {
		_, backErr := c.takeBack()
		return runtime, changed, errors.Join(err, backErr)
	}
	i.restarts, i.restartedAt = i.restarts+1, time.Now()
	ctrl.LoggerFrom(ctx).Info("the container runtime is restarted to serve the handlers", "runtime", runtime.name(), "changed", changed)
	if err := runtime.restart(ctx); err != nil {
		return runtime, changed, err
	}
	now, err := i.awaitServed(ctx, handlers)
	if err != nil {
		if _, findErr := i.runtime(ctx); findErr != nil && ctx.Err() == nil { // it does not come up; whoever looks after it tries again
			_, backErr := c.takeBack()
			err = errors.Join(err, findErr, backErr)
		}
		return runtime, changed, err
	}
	c.root, c.home = now.root(), i.nodeAt(now).Home()
	if err := c.restarted(); err != nil {
		return now, changed, err
	}
	i.restarts = 0
	return now, changed, nil
}

// mayRestart keeps a mistake of ours, or a container runtime that does not take what it is given, from having it restarted again and again. After a restart in
// vain nothing is written for a minute, and after each next one for twice as long, up to an hour.
func (i *Installer) mayRestart() error {
	if next := i.restartedAt.Add(restartAfter(i.restarts)); time.Now().Before(next) {
		return fmt.Errorf("the container runtime was restarted to serve the handlers, %d times by now, and that did not help; it is tried again at %s",
			i.restarts, next.Format(time.TimeOnly))
	}
	return nil
}

// restartAfter is how long after so many restarts the next one may come.
func restartAfter(restarts int) time.Duration {
	if restarts == 0 {
		return 0
	}
	return min(time.Minute<<min(restarts-1, 10), time.Hour)
}

// serves tells whether a container runtime has all handlers.
func serves(ctx context.Context, runtime containerRuntime, handlers []handler) (bool, error) {
	names, err := runtime.serves(ctx)
	return err == nil && !slices.ContainsFunc(handlers, func(h handler) bool { return !slices.Contains(names, h.name) }), err
}

// awaitServed returns the process that serves all handlers, once there is one.
func (i *Installer) awaitServed(ctx context.Context, handlers []handler) (containerRuntime, error) {
	ctx, cancel := context.WithTimeout(ctx, servePatience)
	defer cancel()
	for {
		runtime, err := i.runtime(ctx)
		if err == nil {
			if served, _ := serves(ctx, runtime, handlers); served {
				return runtime, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("the container runtime does not serve %s after %s", namesOf(handlers), servePatience), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// namesOf is a list of handlers for a person.
func namesOf(handlers []handler) string {
	names := []string{"its interface"}
	for _, h := range handlers {
		names = append(names, h.name)
	}
	return strings.Join(names, ", ")
}

// label gives the node the labels that send pods to it, one for each handler, or takes them away: all when there are no handlers.
func (i *Installer) label(ctx context.Context, handlers []handler) error {
	node := &corev1.Node{}
	if err := i.Client.Get(ctx, client.ObjectKey{Name: i.NodeName}, node); err != nil {
		return err
	}
	labels := map[string]any{}
	for name := range node.Labels {
		if name == keys.NodeReady || strings.HasPrefix(name, keys.NodeReady+"-") {
			labels[name] = nil
		}
	}
	for _, h := range handlers {
		name := keys.NodeReady
		if h.variant != "" {
			name += "-" + h.variant
		}
		labels[name] = keys.True
		if node.Labels[name] == keys.True {
			delete(labels, name)
		}
	}
	return i.patch(ctx, node, map[string]any{"labels": labels})
}

// patch changes labels and annotations of the node; nil takes one away.
func (i *Installer) patch(ctx context.Context, node *corev1.Node, metadata map[string]any) error {
	empty := true
	for _, values := range metadata {
		empty = empty && len(values.(map[string]any)) == 0
	}
	if empty {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return err
	}
	return i.Client.Patch(ctx, node, client.RawPatch(types.MergePatchType, patch))
}

// unretire has the runtime of a node work again.
func unretire(node capture.Node) error {
	err := os.Remove(node.RetiredFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, os.RemoveAll(node.Retired()))
}
