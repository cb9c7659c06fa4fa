package retention

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/condition"
	"github.com/transparent-checkpoint/operator/controllers/operatorconfig"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// Reconciler looks after the Checkpoints of one namespace at a time: how many are kept is told of all of them together.
type Reconciler struct {
	Client   client.Client
	Recorder events.EventRecorder
	Now      func() time.Time
	// Config tells what is said for the whole operator; nil is nothing.
	Config *operatorconfig.Source
}

// SetUp adds the reconciler to the manager.
func SetUp(manager ctrl.Manager, config *operatorconfig.Source) error {
	r := &Reconciler{Client: manager.GetClient(), Recorder: manager.GetEventRecorder("checkpoint-manager"), Now: time.Now, Config: config}
	return r.watch(ctrl.NewControllerManagedBy(manager).Named("retention")).Complete(r)
}

// Reconcile does for each Checkpoint of a namespace, which is the request's, the next step. One that fails keeps none from being taken. Each is taken
// of the Checkpoint as it was read, or not at all: one that a pod claims meanwhile stays.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	checkpoints := &v1alpha1.CheckpointList{}
	if err := r.Client.List(ctx, checkpoints, client.InNamespace(request.Namespace)); err != nil {
		return ctrl.Result{}, err
	}
	measure(request.Namespace, checkpoints.Items)
	if len(checkpoints.Items) == 0 {
		return ctrl.Result{}, nil
	}
	f, err := r.gather(ctx, request.Namespace, checkpoints.Items)
	if err != nil {
		return ctrl.Result{}, err
	}
	paused := r.Config.Config(ctx).Paused != "" // then nothing expires, and nothing that has expired goes
	var failed []error
	after := time.Duration(0)
	for i := range f.checkpoints {
		c := &f.checkpoints[i]
		s := f.judge(c)
		if paused {
			s = step{keep: s.keep}
		}
		if s.cause != "" && !s.delete {
			s.after = expiredTime
		}
		if s.after > 0 && (after == 0 || s.after < after) {
			after = s.after
		}
		switch err := r.take(ctx, c, s); {
		case apierrors.IsConflict(err): // it has changed since it was read, and is read again
			after = time.Second
		case client.IgnoreNotFound(err) != nil:
			failed = append(failed, err)
		}
	}
	return ctrl.Result{RequeueAfter: after}, errors.Join(failed...)
}

// gather reads what the rule needs.
func (r *Reconciler) gather(ctx context.Context, namespace string, checkpoints []v1alpha1.Checkpoint) (facts, error) {
	f := facts{checkpoints: checkpoints, readOnly: map[string]bool{}, now: r.Now()}
	policies, restores, locations := &v1alpha1.CheckpointPolicyList{}, &v1alpha1.RestorePolicyList{}, &v1alpha1.CheckpointStorageLocationList{}
	for _, list := range []client.ObjectList{policies, restores} {
		if err := r.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return f, err
		}
	}
	if err := r.Client.List(ctx, locations); err != nil {
		return f, err
	}
	f.policies, f.restores = policies.Items, restores.Items
	for i := range locations.Items {
		if l := &locations.Items[i]; l.IsReadOnly() {
			f.readOnly[l.Name] = true
		}
	}
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.InNamespace(namespace)); err != nil {
		return f, err
	}
	f.succeeded, f.beginnings = succeededAmong(pods.Items), beginningsOf(pods.Items)
	var err error
	if f.quota, err = r.Config.Quota(ctx, namespace); err != nil {
		return f, err
	}
	f.room = f.makers()
	f.ends, err = r.endsOf(ctx, namespace, checkpoints)
	return f, err
}

// take takes one step.
func (r *Reconciler) take(ctx context.Context, c *v1alpha1.Checkpoint, s step) error {
	if !c.DeletionTimestamp.IsZero() {
		return nil
	}
	switch {
	case s.delete:
		return r.remove(ctx, c, s)
	case s.cause != "":
		return r.expire(ctx, c, s)
	}
	references, differs := reference(c, s.keep)
	if !differs {
		return nil
	}
	wanted := c.DeepCopy()
	wanted.OwnerReferences = references
	return r.Client.Patch(ctx, wanted, client.MergeFromWithOptions(c, client.MergeFromWithOptimisticLock{}))
}

// expire says of a Checkpoint that no pod is restored from it any more.
func (r *Reconciler) expire(ctx context.Context, c *v1alpha1.Checkpoint, s step) error {
	ready := metav1.Condition{Type: v1alpha1.CheckpointReady, Status: metav1.ConditionFalse, Reason: v1alpha1.StateExpired, Message: s.message}
	status := apply.CheckpointStatus().WithConditions(condition.Apply(c.Status.Conditions, ready, r.Now()))
	wanted := apply.Checkpoint(c.Name, c.Namespace).WithUID(c.UID).WithResourceVersion(c.ResourceVersion).WithStatus(status)
	if err := r.Client.Status().Apply(ctx, wanted, client.FieldOwner(keys.RetentionFields), client.ForceOwnership); err != nil {
		return err
	}
	expired.WithLabelValues(string(s.cause)).Inc()
	ctrl.LoggerFrom(ctx).Info("a Checkpoint has expired", "checkpoint", c.Name, "pod", c.Spec.SourcePodName, "reason", string(s.cause), "message", s.message)
	r.Recorder.Eventf(c, nil, corev1.EventTypeNormal, v1alpha1.StateExpired, "Retain", "%s; it is deleted in %s", s.message, expiredTime)
	return nil
}

// remove deletes a Checkpoint. Its finalizer has the data be deleted first.
func (r *Reconciler) remove(ctx context.Context, c *v1alpha1.Checkpoint, s step) error {
	err := r.Client.Delete(ctx, c, client.Preconditions{UID: &c.UID, ResourceVersion: &c.ResourceVersion})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.cause != "" { // it has not been counted when it expired
		expired.WithLabelValues(string(s.cause)).Inc()
	}
	ctrl.LoggerFrom(ctx).Info("deleted a Checkpoint", "checkpoint", c.Name, "pod", c.Spec.SourcePodName, "message", s.message)
	r.Recorder.Eventf(c, nil, corev1.EventTypeNormal, "Deleted", "Retain", "%s", s.message)
	return nil
}
