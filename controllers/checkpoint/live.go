package checkpoint

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// evictionPause is how long an eviction waits that a PodDisruptionBudget does not allow yet.
const evictionPause = 10 * time.Second

// unreportedLive is the verdict on the capture of a pod that goes on, of which no node has said anything. What cannot be captured fails at once: nobody waits
// for a pod that may never come.
func (f facts) unreportedLive() verdict {
	c, name := f.checkpoint, f.checkpoint.Spec.SourcePodName
	if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.CheckpointReady); ready != nil && ready.Reason == v1alpha1.StateFailed {
		return verdict{state: ready.Reason, message: ready.Message}
	}
	left := c.CreationTimestamp.Add(reportTime).Sub(f.now)
	switch {
	case f.pod != nil:
	case c.Status.Source == nil && f.replacedBy != "":
		return failedLive(v1alpha1.ReasonSourceReplaced, "pod %s has the UID %s; spec.sourcePodUID is %s", name, f.replacedBy, c.Spec.SourcePodUID)
	case c.Status.Source == nil:
		return failedLive(v1alpha1.ReasonSourceNotFound, "there is no pod %s in namespace %s", name, c.Namespace)
	case left > 0:
		return verdict{state: v1alpha1.StatePending, message: fmt.Sprintf("pod %s is gone; node %s has not said what it captured", name, f.node()), again: left}
	default:
		return failedLive(v1alpha1.ReasonSourceNotFound, "pod %s is gone, and node %s has not said that it captured anything", name, f.node())
	}
	if reason, why := podspec.NotLive(f.pod); reason != "" {
		return failedLive(reason, "%s", why)
	}
	switch {
	case c.Name == v1alpha1.TerminationName(f.pod.Name, f.pod.UID):
		return failedLive(v1alpha1.StateFailed, "its name is the one that the last Checkpoint of pod %s will have; delete it, and choose another", name)
	case podspec.Runs(f.pod) && f.pod.Spec.NodeName != "":
		v := verdict{state: v1alpha1.StatePending, stalled: f.nowhere, help: f.help}
		v.message = fmt.Sprintf("node %s is asked to capture pod %s", f.pod.Spec.NodeName, name)
		if !f.nodeUp {
			v.stalled, v.help = v1alpha1.ReasonNodeUnavailable, fmt.Sprintf("node %s, which has the pod, is not ready", f.pod.Spec.NodeName)
		}
		return v
	case left > 0:
		return verdict{state: v1alpha1.StatePending, message: fmt.Sprintf("pod %s does not run yet", name), again: left}
	}
	return failedLive(v1alpha1.ReasonSourceNotRunning, "pod %s did not run for %s", name, reportTime)
}

func failedLive(reason, format string, args ...any) verdict {
	return verdict{state: v1alpha1.StateFailed, message: reason + ": " + fmt.Sprintf(format, args...)}
}

// hand gives the Checkpoint of a pod that goes on to the agent of its node, by a label, once it is known that the pod can be captured. From then on there may
// be data to delete.
func (r *Reconciler) hand(ctx context.Context, f facts, v verdict) error {
	c := f.checkpoint
	if !c.Spec.Trigger.IsLive() || v.state != v1alpha1.StatePending || f.pod == nil || !podspec.Runs(f.pod) || c.Labels[keys.SourceNode] != "" || c.IsRecreated() {
		return nil
	}
	handed := c.DeepCopy()
	controllerutil.AddFinalizer(handed, keys.CheckpointFinalizer)
	metav1.SetMetaDataLabel(&handed.ObjectMeta, keys.SourceNode, lineage.NodeLabel(f.pod.Spec.NodeName))
	return client.IgnoreNotFound(r.Client.Patch(ctx, handed, client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{})))
}

// stop evicts a pod that was captured while it went on, if the Checkpoint says so. It returns when to try again.
func (r *Reconciler) stop(ctx context.Context, f facts) (time.Duration, error) {
	c, pod := f.checkpoint, f.pod
	if c.Spec.PostCheckpoint != v1alpha1.PostCheckpointStop || pod == nil || !pod.DeletionTimestamp.IsZero() || podspec.HasEnded(pod) ||
		!podspec.IsProtected(pod) || !meta.IsStatusConditionTrue(c.Status.Conditions, v1alpha1.CheckpointCaptured) {
		return 0, nil
	}
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}},
	}
	err := r.Client.SubResource("eviction").Create(ctx, pod, eviction)
	switch {
	case apierrors.IsTooManyRequests(err):
		r.Recorder.Eventf(pod, c, corev1.EventTypeWarning, "EvictionRefused", "Checkpoint", "%s",
			v1alpha1.EventNote(fmt.Sprintf("Checkpoint %s is to stop the pod (postCheckpoint), which its PodDisruptionBudget does not allow yet; "+
				"it is tried again: %v", c.Name, err)))
		return evictionPause, nil
	case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
		return 0, nil
	case err == nil:
		r.Recorder.Eventf(pod, c, corev1.EventTypeNormal, "Stopped", "Checkpoint", "evicted, as Checkpoint %s says (postCheckpoint)", c.Name)
	}
	return 0, err
}
