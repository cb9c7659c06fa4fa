package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/deleted"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/secrets"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// How long data is tried to be deleted, and how long one attempt and the wait after it may take.
const (
	deletionTime   = 10 * time.Minute
	attemptTime    = time.Minute
	firstPause     = 2 * time.Second
	longestPause   = time.Minute
	uploadEnds     = 15 * time.Second // after the deletion no upload goes on any more
	dataLeftBehind = "DataLeftBehind"
	deletionFailed = "DeletionFailed"
	dataKept       = "DataKept"
)

// errReadOnly says that nothing may be deleted in a location.
var errReadOnly = errors.New("the location is read-only")

// finalize deletes the data of a Checkpoint that is deleted, and lets it go: when the data is gone, or after a bounded time, since a bucket
// that is gone for good must not keep a namespace from being deleted.
func (r *Reconciler) finalize(ctx context.Context, checkpoint *v1alpha1.Checkpoint) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(checkpoint, keys.CheckpointFinalizer) {
		r.forgetEnd(checkpoint.UID)
		return ctrl.Result{}, nil
	}
	log, tried := ctrl.LoggerFrom(ctx), r.Now().Sub(checkpoint.DeletionTimestamp.Time)
	location, folder := checkpoint.Status.LocationName, folderOf(checkpoint)
	err := r.deleteData(ctx, checkpoint)
	if err == nil && mayBeUploading(checkpoint) && tried < uploadEnds {
		return ctrl.Result{RequeueAfter: uploadEnds - tried}, nil
	}
	if errors.Is(err, errReadOnly) {
		log.Info("the data is kept", "location", location, "folder", folder, "name", checkpoint.StorageName())
		r.Recorder.Eventf(checkpoint, nil, corev1.EventTypeNormal, dataKept, "Delete",
			"location %s has the accessMode ReadOnly: the objects of %s below %s stay, and may be deleted by hand", location, checkpoint.StorageName(), folder)
		err = r.noteKept(ctx, checkpoint)
	}
	if err == nil {
		return ctrl.Result{}, r.release(ctx, checkpoint)
	}
	if tried >= deletionTime {
		log.Error(err, "data is left behind", "location", location, "folder", folder, "name", checkpoint.StorageName())
		r.Recorder.Eventf(checkpoint, nil, corev1.EventTypeWarning, dataLeftBehind, "Delete",
			"the Checkpoint goes without its data after %s; the objects of %s below %s in location %s stay until that can be used, and are deleted then: %s",
			deletionTime, checkpoint.StorageName(), folder, location, explained(err))
		leftBehind.Inc()
		if err := deleted.Note(ctx, r.Client, r.Namespace, checkpoint, folder); err != nil { // the event tells a person what to delete
			log.Error(err, "note what is left behind", "location", location)
		}
		return ctrl.Result{}, r.release(ctx, checkpoint)
	}
	wait := min(max(tried/2, firstPause), longestPause, deletionTime-tried)
	log.Error(err, "delete the data", "location", location, "folder", folder, "name", checkpoint.StorageName(), "wait", wait.String())
	r.Recorder.Eventf(checkpoint, nil, corev1.EventTypeWarning, deletionFailed, "Delete",
		"the data in location %s is not deleted yet, which is tried again in %s: %s", location, wait.Round(time.Second), explained(err))
	return ctrl.Result{RequeueAfter: wait}, nil
}

// explained is an error of a store, and what a person can do about it if anybody can.
func explained(err error) string {
	if advice := storage.Advice(err); advice != "" {
		return err.Error() + ". " + advice
	}
	return err.Error()
}

// noteKept notes a Checkpoint whose data stays for good where a sync would find it.
func (r *Reconciler) noteKept(ctx context.Context, checkpoint *v1alpha1.Checkpoint) error {
	location := &v1alpha1.CheckpointStorageLocation{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: checkpoint.Status.LocationName}, location)
	if err != nil || location.Spec.SyncInterval == nil {
		return client.IgnoreNotFound(err)
	}
	return deleted.Note(ctx, r.Client, r.Namespace, checkpoint, "")
}

// mayBeUploading tells whether an agent may put objects of a Checkpoint at this moment. It ends when it sees the deletion, and deletes them; should its node
// die before it has, nobody else would know of them. So they are looked for once more.
func mayBeUploading(checkpoint *v1alpha1.Checkpoint) bool {
	return checkpoint.Status.LocationName != "" && checkpoint.Status.ManifestDigest == ""
}

// deleteData deletes what is in the bucket. What is on the node is the agent's, which sees the deletion as well.
func (r *Reconciler) deleteData(ctx context.Context, checkpoint *v1alpha1.Checkpoint) error {
	if checkpoint.Status.LocationName == "" && checkpoint.Status.ManifestDigest == "" || checkpoint.Status.Source == nil {
		return nil // no upload was begun
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	location := &v1alpha1.CheckpointStorageLocation{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: checkpoint.Status.LocationName}, location); err != nil {
		return fmt.Errorf("storage location %q: %w", checkpoint.Status.LocationName, err)
	}
	if location.IsReadOnly() {
		return errReadOnly
	}
	held, err := secrets.Read(location, r.Namespace, func(name string) (*corev1.Secret, error) {
		secret := &corev1.Secret{}
		return secret, r.Client.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: name}, secret)
	})
	if err != nil {
		return fmt.Errorf("storage location %q: %w", location.Name, err)
	}
	store, err := r.Open(ctx, location, held.Data)
	if err != nil {
		return err
	}
	err = (&image.Folder{Store: store, Name: folderOf(checkpoint), Keys: held.Keys}).Delete(ctx, checkpoint.StorageName())
	if e := location.Spec.Encryption; errors.Is(err, storage.ErrNoKey) && e != nil {
		err = fmt.Errorf("%w; put it back into the Secret %q, or delete the Checkpoint that needs it", err, e.SecretName)
	}
	return err
}

// folderOf is where the state of a Checkpoint lies in its location, with those of its lineage.
func folderOf(checkpoint *v1alpha1.Checkpoint) string {
	if checkpoint.Status.Source == nil {
		return ""
	}
	return keys.StorageFolder(checkpoint.Namespace, checkpoint.Status.Source.Lineage)
}

// release takes the finalizer off, and nothing else.
func (r *Reconciler) release(ctx context.Context, checkpoint *v1alpha1.Checkpoint) error {
	released := checkpoint.DeepCopy()
	controllerutil.RemoveFinalizer(released, keys.CheckpointFinalizer)
	err := r.Client.Patch(ctx, released, client.MergeFromWithOptions(checkpoint, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("take the finalizer off: %w", err)
	}
	r.forgetEnd(checkpoint.UID)
	return nil
}
