package pod

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/internal/jobs"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// The reasons of events on a Job that counts its captured pods as failures.
const (
	resumesLeft   = "ResumesLeft"   // the Job bears more of them before it fails; the event says how many, and how none would count
	noResumesLeft = "NoResumesLeft" // it bears no other one, or not even this one; the event says how none would count
)

// lately is how old the eviction of a pod may be of which its Job is told: evicted pods stay, and are seen again when the manager starts.
const lately = time.Minute

// tellJob tells the Job of a pod that is terminated, once, how many more it bears, if it counts them as failures.
func (r *Reconciler) tellJob(ctx context.Context, pod *corev1.Pod) error {
	owner := jobs.Of(pod)
	if owner == nil || !isCaptured(pod) && !r.wasEvicted(pod) {
		return nil
	}
	key := client.ObjectKeyFromObject(pod)
	if told, found := r.told.Load(key); found && told == pod.UID {
		return nil
	}
	live, job, err := r.podAndJob(ctx, key, owner.Name)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if live.UID != pod.UID || job.UID != owner.UID {
		return nil
	}
	r.told.Store(key, pod.UID)
	outlook, ok := jobs.OutlookOf(job, live)
	if !ok || outlook.Action == batchv1.PodFailurePolicyActionIgnore {
		return nil
	}
	kind, reason := corev1.EventTypeNormal, resumesLeft
	if outlook.Action != batchv1.PodFailurePolicyActionCount || outlook.Left() <= 0 {
		kind, reason = corev1.EventTypeWarning, noResumesLeft
	}
	r.Events.Eventf(job, live, kind, reason, "Count", "%s %s", said(outlook, pod.Name), advice(job))
	return nil
}

// podAndJob reads a pod and its Job as of one moment, so that it is certain whether the Job counts the pod yet. Its controller notes the pod's UID
// in the Job, takes its finalizer off the pod, and turns the UID into a number then. So what a Job says of a pod that has the finalizer holds if it
// has it afterwards too, and of one that has lost it the Job is read last.
func (r *Reconciler) podAndJob(ctx context.Context, key client.ObjectKey, name string) (*corev1.Pod, *batchv1.Job, error) {
	pod, job := &corev1.Pod{}, &batchv1.Job{}
	if err := r.Live.Get(ctx, key, pod); err != nil {
		return nil, nil, err
	}
	readJob := func() error { return r.Live.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: name}, job) }
	if err := readJob(); err != nil || !jobs.IsTracked(pod) {
		return pod, job, err
	}
	now := &corev1.Pod{}
	switch err := r.Live.Get(ctx, key, now); {
	case err == nil && jobs.IsTracked(now):
		return now, job, nil
	case err == nil:
		pod = now
	case apierrors.IsNotFound(err):
		pod.Finalizers = nil
	default:
		return nil, nil, err
	}
	return pod, job, readJob()
}

// wasEvicted tells whether kubelet has just now ended a pod to make room, or to shut its node down.
func (r *Reconciler) wasEvicted(pod *corev1.Pod) bool {
	c := podspec.Condition(pod, corev1.DisruptionTarget)
	return podspec.IsProtected(pod) && pod.Status.Phase == corev1.PodFailed && pod.DeletionTimestamp.IsZero() &&
		c != nil && c.Status == corev1.ConditionTrue && r.Now().Sub(c.LastTransitionTime.Time) < lately
}

// said is the sentence on what a pod's end means for its Job.
func said(o jobs.Outlook, pod string) string {
	whose := "the Job"
	if o.Index != "" {
		whose = "index " + o.Index
	}
	switch {
	case o.Action == batchv1.PodFailurePolicyActionFailJob:
		return fmt.Sprintf("Pod %s is captured, but not resumed: the Job's podFailurePolicy fails the Job for its end.", pod)
	case o.Action == batchv1.PodFailurePolicyActionFailIndex:
		return fmt.Sprintf("Pod %s is captured, but not resumed: the Job's podFailurePolicy fails its index for its end.", pod)
	case o.Left() < 0:
		return fmt.Sprintf("Pod %s is captured, but not resumed: its end is failure %d of %s, and %s is %d.", pod, o.Failed, whose, o.Field, o.Limit)
	case o.Left() == 0:
		return fmt.Sprintf("Pod %s is captured and will be resumed. Its end counts as failure %d of %s, and %s is %d: the next one fails it.",
			pod, o.Failed, whose, o.Field, o.Limit)
	}
	return fmt.Sprintf("Pod %s is captured and will be resumed. Its end counts as failure %d of %s, and %s is %d: it bears %d more.",
		pod, o.Failed, whose, o.Field, o.Limit, o.Left())
}

// advice says what to do so that captured pods do not count.
func advice(job *batchv1.Job) string {
	now := "Raise spec.backoffLimit"
	if job.Spec.BackoffLimitPerIndex != nil {
		now = "Raise spec.backoffLimitPerIndex in a new Job" // it cannot be changed
	}
	switch {
	case job.Spec.PodFailurePolicy != nil:
		return now + ", or make a new Job whose podFailurePolicy begins with a rule Ignore on the pod condition DisruptionTarget."
	case job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyNever:
		return now + ", or make a new Job with restartPolicy Never: captured pods do not count there."
	case job.Annotations[keys.JobFailurePolicy] == keys.JobFailurePolicyKeep:
		return now + ", or make a new Job without the annotation " + keys.JobFailurePolicy + ": captured pods do not count there."
	}
	return now + ", or make the Job anew: captured pods do not count there."
}
