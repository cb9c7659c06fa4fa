package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/placed"
)

// gonePatience is for how long the API server is asked whether the agent's DaemonSet is gone.
const gonePatience = 10 * time.Second

// learnDaemonSet finds out of which DaemonSet the agent's pod is, unless that is known.
func (i *Installer) learnDaemonSet(ctx context.Context) {
	if i.daemonSet != "" || i.Pod.Name == "" {
		return
	}
	pod := &corev1.Pod{}
	if err := i.Everywhere.Get(ctx, i.Pod, pod); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "read the agent's own pod")
		return
	}
	if owner := metav1.GetControllerOf(pod); owner != nil && owner.Kind == "DaemonSet" {
		i.daemonSet = owner.Name
	}
}

// IsOver tells of an agent that ends whether none takes over: its DaemonSet or its Namespace is gone or about to go, or it has no right any more to ask,
// as its ServiceAccount or its Role is gone. A rollout is none of that. Where the API server does not answer, it is not over.
func (i *Installer) IsOver(ctx context.Context) bool {
	i.learnDaemonSet(ctx)
	if i.daemonSet == "" {
		return false
	}
	for end := time.Now().Add(gonePatience); ; time.Sleep(500 * time.Millisecond) {
		over, err := i.asksIsOver(ctx)
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return over
		}
	}
}

// asksIsOver asks the API server once.
func (i *Installer) asksIsOver(ctx context.Context) (bool, error) {
	for _, what := range []client.Object{
		&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: i.Pod.Namespace, Name: i.daemonSet}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: i.Pod.Namespace}},
	} {
		err := i.Everywhere.Get(ctx, client.ObjectKeyFromObject(what), what)
		if apierrors.IsNotFound(err) || apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) {
			return true, nil
		}
		if err != nil || !what.GetDeletionTimestamp().IsZero() {
			return err == nil, err
		}
	}
	return false, nil
}

// Remove takes the installation off the node. While pods of our handlers are there, they need handler and runtime to end: then the runtime retires
// instead, which means that it captures and restores nothing any more, passes everything on, and removes the rest when the last of them is gone.
// States that are nowhere else stay on the node's disk.
func (i *Installer) Remove(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName("remove")
	runtime, err := i.runtime(ctx)
	if err != nil {
		return err
	}
	node, pods := i.nodeAt(runtime), 0
	_, err = os.Stat(node.Home())
	installed := err == nil
	if installed {
		if pods, err = i.retire(ctx, runtime); err != nil {
			return fmt.Errorf("retire the runtime: %w", err)
		}
	}
	if err := i.unlabel(ctx, pods > 0); err != nil { // it may have no right to, any more
		log.Error(err, "take the labels off the node")
	}
	if !installed {
		return nil
	}
	if pods > 0 {
		log.Info("the runtime is retired, and removes itself when the last pod of its handlers is gone", "pods", pods)
		return nil
	}
	changed, err := configuration{root: runtime.root(), home: node.Home()}.takeBack()
	if err != nil {
		return err
	}
	kept, err := placed.Clear(node)
	if err != nil {
		return err
	}
	if len(kept) > 0 {
		log.Info("states that are in no bucket stay on the node's disk", "folders", kept)
	}
	if changed {
		log.Info("the container runtime is restarted without the handlers", "runtime", runtime.name())
		if err := runtime.restart(ctx); err != nil {
			return err
		}
		// It is to see this process end: else it would not know how that went.
		if _, err := i.awaitServed(ctx, nil); err != nil {
			return err
		}
	}
	log.Info("removed from the node")
	return nil
}

// retire has the runtime retire if there are sandboxes of our handlers, and returns how many. The runtime keeps account of those that come and go from the
// moment on at which it is retired; so they are listed after that, and once more for those that went meanwhile.
func (i *Installer) retire(ctx context.Context, runtime containerRuntime) (int, error) {
	ids, err := runtime.sandboxes(ctx)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	node := i.nodeAt(runtime)
	if err := os.WriteFile(node.RetiredFile(), nil, 0o600); err != nil {
		return 0, err
	}
	if ids, err = runtime.sandboxes(ctx); err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := node.NoteSandbox(id); err != nil {
			return 0, err
		}
	}
	now, err := runtime.sandboxes(ctx)
	if err != nil {
		return 0, err
	}
	there := map[string]bool{}
	for _, id := range now {
		there[id] = true
	}
	for _, id := range ids {
		if !there[id] {
			if err := os.Remove(filepath.Join(node.Retired(), id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, err
			}
		}
	}
	return len(now), nil
}

// unlabel takes everything off the node object that agent and installer have written there, but for the labels by which pods of our handlers may be there
// if that is asked for: kubelet looks at them again when its node has started.
func (i *Installer) unlabel(ctx context.Context, keepReady bool) error {
	node := &corev1.Node{}
	if err := i.Client.Get(ctx, client.ObjectKey{Name: i.NodeName}, node); err != nil {
		return err
	}
	labels, annotations := map[string]any{}, map[string]any{}
	for name := range node.Labels {
		ready := name == keys.NodeReady || strings.HasPrefix(name, keys.NodeReady+"-")
		if ready && !keepReady || name == keys.NodeClass || name == keys.GracefulShutdown {
			labels[name] = nil
		}
	}
	for name := range node.Annotations {
		if name == keys.NodeFacts || name == keys.GracefulShutdown {
			annotations[name] = nil
		}
	}
	return i.patch(ctx, node, map[string]any{"labels": labels, "annotations": annotations})
}
