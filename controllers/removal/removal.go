package removal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Options say how the operator goes.
type Options struct {
	// Namespace is the manager's, in which this runs too.
	Namespace string
	// KeepObjects leaves the Kubernetes objects to whoever made them, as Helm, but for what has to go first: webhooks, agents and manager.
	KeepObjects bool
	// KeepCRDs leaves the CustomResourceDefinitions, and with them all Checkpoints and policies.
	KeepCRDs bool
	// LeaveStates goes on though there are states that are on the disk of a node only. They stay there.
	LeaveStates bool
	// Patience is how long states that are under way, agents and the manager are waited for, each.
	Patience time.Duration
}

// Removal is one run.
type Removal struct {
	Options
	Client client.Client // without a cache
	Out    io.Writer     // tells a person of the progress
	// pause is how long it waits before it looks again.
	pause time.Duration
}

// ErrStatesLeft is returned while states of pods are on the disk of a node only, and Options does not say to leave them.
var ErrStatesLeft = errors.New("states are not in the bucket")

// Run removes the operator. It returns an error that wraps ErrStatesLeft when states would be left behind, and then agents and manager go on; any other
// error is one of the API server, or names what does not end.
func (r *Removal) Run(ctx context.Context) error {
	if r.pause == 0 {
		r.pause = time.Second
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"wait for states that are on their way to the bucket; nothing is touched before", r.awaitStates},
		{"remove the webhooks: from now on new pods are made as if there were no operator", r.removeWebhooks},
		{"wait for those that came since", r.awaitStates},
		{"remove the agents; each takes the runtime off its node", r.removeAgents},
		{"take our labels and annotations off nodes and namespaces", r.cleanObjects},
		{"remove the manager", r.removeManager},
		{"take the finalizers off the Checkpoints; what is in the bucket stays there", r.removeFinalizers},
		{"remove the RuntimeClass", r.removeRuntimeClasses},
		{"remove all other objects", r.removeObjects},
	} {
		r.say("→ %s\n", step.what)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	r.say("The operator is gone.\n")
	return r.removeNamespaces(ctx)
}

// say tells whoever follows the log. What nobody can read does not keep it from going on.
func (r *Removal) say(format string, args ...any) { _, _ = fmt.Fprintf(r.Out, format, args...) }

// await asks until it is done, which is when nothing is left of which it tells, and says so when that changes.
func (r *Removal) await(ctx context.Context, left func(context.Context) ([]string, error)) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	var last []string
	for {
		names, err := left(ctx)
		if err == nil && len(names) == 0 {
			return nil, nil
		}
		if err == nil && !slices.Equal(names, last) {
			r.say("  %d left: %s\n", len(names), some(names))
			last = names
		}
		select {
		case <-ctx.Done():
			return last, err
		case <-time.After(r.pause):
		}
	}
}

// some names at most five.
func some(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// awaitStates waits until every state is in the bucket, or is none.
func (r *Removal) awaitStates(ctx context.Context) error {
	left, err := r.await(ctx, func(ctx context.Context) (names []string, err error) {
		list := &v1alpha1.CheckpointList{}
		if err := r.Client.List(ctx, list); err != nil {
			if meta.IsNoMatchError(err) { // an earlier run has removed the kind
				return nil, nil
			}
			return nil, err
		}
		for i := range list.Items {
			if isUnderWay(&list.Items[i]) {
				names = append(names, list.Items[i].Namespace+"/"+list.Items[i].Name)
			}
		}
		pods, err := r.endingPods(ctx)
		names = append(names, pods...)
		slices.Sort(names)
		return names, err
	})
	switch {
	case err != nil:
		return err
	case len(left) > 0 && !r.LeaveStates:
		return fmt.Errorf("%w after %s: %s; see why with kubectl describe, or have them left on the disks of their nodes with --leave-states",
			ErrStatesLeft, r.Patience, some(left))
	case len(left) > 0:
		r.say("  these stay on the disks of their nodes, in /var/lib/checkpoint: %s\n", some(left))
	}
	return nil
}

// endingMargin is for how long after its grace period a pod that is being deleted is believed to be on its way to a Checkpoint. It is stuck then, as on a
// node that is gone.
const endingMargin = time.Minute

// endingPods names the pods that are being deleted and captured, which may have no Checkpoint yet.
func (r *Removal) endingPods(ctx context.Context) (names []string, err error) {
	list := &corev1.PodList{}
	if err := r.Client.List(ctx, list); err != nil {
		return nil, err
	}
	for i := range list.Items {
		pod := &list.Items[i]
		if end := pod.DeletionTimestamp; podspec.IsProtected(pod) && !end.IsZero() && !podspec.HasEnded(pod) && time.Since(end.Time) < endingMargin {
			names = append(names, "pod "+pod.Namespace+"/"+pod.Name)
		}
	}
	return names, nil
}

// isUnderWay tells whether a Checkpoint has a state that is not in the bucket yet, or data that is being deleted there.
func isUnderWay(checkpoint *v1alpha1.Checkpoint) bool {
	if !checkpoint.DeletionTimestamp.IsZero() {
		return slices.Contains(checkpoint.Finalizers, keys.CheckpointFinalizer)
	}
	ready := meta.FindStatusCondition(checkpoint.Status.Conditions, v1alpha1.CheckpointReady)
	return ready == nil || slices.Contains([]string{v1alpha1.StatePending, v1alpha1.StateDumping, v1alpha1.StateUploading}, ready.Reason)
}

// removeFinalizers lets Checkpoints be deleted without their data.
func (r *Removal) removeFinalizers(ctx context.Context) error {
	list := &v1alpha1.CheckpointList{}
	if err := r.Client.List(ctx, list); err != nil {
		if meta.IsNoMatchError(err) {
			return nil
		}
		return err
	}
	for i := range list.Items {
		checkpoint := &list.Items[i]
		if !slices.Contains(checkpoint.Finalizers, keys.CheckpointFinalizer) {
			continue
		}
		before := client.MergeFromWithOptions(checkpoint.DeepCopy(), client.MergeFromWithOptimisticLock{})
		checkpoint.Finalizers = slices.DeleteFunc(checkpoint.Finalizers, func(f string) bool { return f == keys.CheckpointFinalizer })
		if err := client.IgnoreNotFound(r.Client.Patch(ctx, checkpoint, before)); err != nil {
			return err
		}
	}
	return nil
}

// ourPods are the pods that were given one of our handlers and have not ended, by the node that they are on.
func (r *Removal) ourPods(ctx context.Context) (map[string][]string, error) {
	list := &corev1.PodList{}
	if err := r.Client.List(ctx, list); err != nil {
		return nil, err
	}
	names := map[string][]string{}
	for i := range list.Items {
		pod := &list.Items[i]
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if class := pod.Spec.RuntimeClassName; class != nil && keys.IsRuntimeClass(*class) && !ended {
			names[pod.Spec.NodeName] = append(names[pod.Spec.NodeName], pod.Namespace+"/"+pod.Name)
		}
	}
	return names, nil
}
