package retention

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
	"github.com/transparent-checkpoint/operator/internal/podspec"
)

// Revision is the annotation by which a Deployment says which of its ReplicaSets it wants, and each of those which it is
// (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-back-a-deployment).
const Revision = "deployment.kubernetes.io/revision"

// endsOf finds out which owners of Checkpoints, and which plain pods, have come to an end.
func (r *Reconciler) endsOf(ctx context.Context, namespace string, checkpoints []v1alpha1.Checkpoint) (map[string]end, error) {
	ends, seen, plain := map[string]end{}, map[string]bool{}, false
	for i := range checkpoints {
		source := checkpoints[i].Status.Source
		if source == nil {
			continue
		}
		owner := source.Owner
		if owner == nil {
			plain = true
			continue
		}
		if seen[string(owner.UID)] {
			continue
		}
		seen[string(owner.UID)] = true
		var e *end
		var err error
		switch lineage.KindOf(owner) {
		case lineage.Job:
			e, err = r.endOfJob(ctx, namespace, owner)
		case lineage.ReplicaSet:
			e, err = r.endOfReplicaSet(ctx, namespace, owner)
		}
		if err != nil {
			return nil, fmt.Errorf("look at %s %s: %w", owner.Kind, owner.Name, err)
		}
		if e != nil {
			ends[string(owner.UID)] = *e
		}
	}
	if !plain {
		return ends, nil
	}
	return ends, r.endsOfPods(ctx, namespace, ends)
}

// endOfJob is nil while the Job goes on or is suspended. One that is gone is the garbage collector's.
func (r *Reconciler) endOfJob(ctx context.Context, namespace string, owner *v1alpha1.Owner) (*end, error) {
	job := &batchv1.Job{}
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: owner.Name}, job); err != nil || job.UID != owner.UID {
		return nil, client.IgnoreNotFound(err)
	}
	for _, c := range job.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobComplete:
			return &end{causeCompleted, fmt.Sprintf("Job %s has completed", job.Name)}, nil
		case c.Type == batchv1.JobFailed:
			return &end{causeCompleted, fmt.Sprintf("Job %s has failed", job.Name)}, nil
		}
	}
	return nil, nil
}

// endOfReplicaSet is nil as long as its Deployment may want it. While a rollout is under way it does: undoing that has its pods go on.
func (r *Reconciler) endOfReplicaSet(ctx context.Context, namespace string, owner *v1alpha1.Owner) (*end, error) {
	set := &appsv1.ReplicaSet{}
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: owner.Name}, set); err != nil || set.UID != owner.UID {
		return nil, client.IgnoreNotFound(err)
	}
	controller := metav1.GetControllerOf(set)
	if controller == nil || controller.Kind != "Deployment" {
		return nil, nil
	}
	deployment := &appsv1.Deployment{}
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: controller.Name}, deployment); err != nil || deployment.UID != controller.UID {
		return nil, client.IgnoreNotFound(err)
	}
	if !isReplaced(set, deployment) {
		return nil, nil
	}
	return &end{causeReplaced, fmt.Sprintf("Deployment %s has rolled out another revision than that of ReplicaSet %s", deployment.Name, set.Name)}, nil
}

// isReplaced tells whether a rollout that is complete has left a ReplicaSet behind. One that was scaled to zero by hand is still the one that its
// Deployment wants.
func isReplaced(set *appsv1.ReplicaSet, deployment *appsv1.Deployment) bool {
	if deployment.Annotations[Revision] == "" || set.Annotations[Revision] == deployment.Annotations[Revision] {
		return false
	}
	wanted, status := int32(1), deployment.Status
	if deployment.Spec.Replicas != nil {
		wanted = *deployment.Spec.Replicas
	}
	isComplete := status.ObservedGeneration >= deployment.Generation && status.UpdatedReplicas == wanted && status.Replicas == wanted &&
		status.AvailableReplicas == wanted
	return isComplete && set.Status.Replicas == 0 && (set.Spec.Replicas == nil || *set.Spec.Replicas == 0)
}

// endsOfPods adds the plain pods that have succeeded. There are few: nobody makes them anew.
func (r *Reconciler) endsOfPods(ctx context.Context, namespace string, ends map[string]end) error {
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.InNamespace(namespace), client.HasLabels{keys.CheckpointMode}); err != nil {
		return err
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; podspec.Asks(pod) && isPlainAndDone(pod) {
			ends[lineage.Of(pod).Lineage] = end{causeCompleted, fmt.Sprintf("pod %s has succeeded", pod.Name)}
		}
	}
	return nil
}

// isPlainAndDone tells whether a pod that nothing makes anew has done its work. One that ended because it was deleted has not, whatever its program
// answers to the signal.
func isPlainAndDone(pod *corev1.Pod) bool {
	return metav1.GetControllerOf(pod) == nil && pod.Status.Phase == corev1.PodSucceeded && !endedByDeletion(pod)
}

func endedByDeletion(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp.IsZero() {
		return false
	}
	if grace := pod.DeletionGracePeriodSeconds; grace == nil || *grace == 0 { // when it began is no longer there
		return true
	}
	began := podspec.DeletionBegan(pod)
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Terminated == nil || s.State.Terminated.FinishedAt.After(began.Add(-time.Second)) // as exact as the API is
	})
}
