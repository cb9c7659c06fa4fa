package checkpoint

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/lineage"
)

// label keeps the labels of a Checkpoint, by which agents find it, as its source says. Whoever changes or removes one would hide it otherwise.
func (r *Reconciler) label(ctx context.Context, checkpoint *v1alpha1.Checkpoint) error {
	source := checkpoint.Status.Source
	if source == nil {
		return nil
	}
	deployment := types.UID(checkpoint.Labels[keys.Workload])
	if deployment == "" && lineage.KindOf(source.Owner) == lineage.ReplicaSet {
		var err error
		if deployment, err = r.above(ctx, checkpoint.Namespace, source.Owner); err != nil {
			return err
		}
	}
	labelled, changed := checkpoint.DeepCopy(), false
	if labelled.Labels == nil {
		labelled.Labels = map[string]string{}
	}
	for name, value := range lineage.Labels(checkpoint.Namespace, checkpoint.Spec.SourcePodName, *source, deployment) {
		changed = changed || labelled.Labels[name] != value
		labelled.Labels[name] = value
	}
	if !changed {
		return nil
	}
	return client.IgnoreNotFound(r.Client.Patch(ctx, labelled, client.MergeFrom(checkpoint)))
}

// above returns the UID of the controller of a ReplicaSet, and that of the ReplicaSet itself when it stands alone; none when it is gone.
func (r *Reconciler) above(ctx context.Context, namespace string, replicaSet *v1alpha1.Owner) (types.UID, error) {
	set := &metav1.PartialObjectMetadata{}
	set.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: replicaSet.Name}, set)
	if err != nil || set.UID != replicaSet.UID {
		return "", client.IgnoreNotFound(err)
	}
	if controller := metav1.GetControllerOf(set); controller != nil {
		return controller.UID, nil
	}
	return set.UID, nil
}
