package location

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1apply "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/controllers/condition"
	"github.com/transparent-checkpoint/operator/controllers/origin"
	apply "github.com/transparent-checkpoint/operator/generated/applyconfiguration/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/stored"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

var (
	// errGone: the state was deleted meanwhile.
	errGone = errors.New("its state is gone")
	// errNoNamespace: the namespace was deleted meanwhile.
	errNoNamespace = errors.New("its namespace is gone")
)

// mostManifest is the size of the largest manifest that is read, in bytes: that of a state of some 300 GiB. The manager's memory is bounded, and the bucket
// may be somebody else's.
const mostManifest = 64 << 20

// recreate makes the Checkpoint of a state that has none. It may be killed at any step: what it leaves, the next look finishes.
func (l *look) recreate(ctx context.Context, found image.Listed, namespace, lineage string) error {
	if found.Size > mostManifest {
		return fmt.Errorf("its manifest has %d bytes; it may have %d", found.Size, mostManifest)
	}
	folder := l.folder(namespace, lineage)
	wanted, err := read(ctx, folder, found.Name, namespace, lineage)
	if err != nil {
		return err
	}
	wanted.Annotations = map[string]string{keys.SyncedFrom: l.location.Name}
	made := wanted.DeepCopy()
	made.Status = v1alpha1.CheckpointStatus{} // which is written by itself
	err = l.Client.Create(ctx, made)
	switch {
	case apierrors.IsAlreadyExists(err):
		if made, err = l.begun(ctx, wanted); err != nil || made == nil {
			return err
		}
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsNotFound(err):
		return errNoNamespace
	case err != nil:
		return err
	}
	// A Checkpoint of that name was here, perhaps, and went with its manifest just before this one was made.
	exists, err := folder.Exists(ctx, found.Name)
	if err != nil {
		return err
	}
	if !exists {
		return errors.Join(errGone, client.IgnoreNotFound(l.Client.Delete(ctx, made, client.Preconditions{UID: &made.UID})))
	}
	if err := l.describe(ctx, made, wanted.Status); err != nil {
		return err
	}
	l.recreated++
	l.anew[namespace]++
	return nil
}

// read returns the Checkpoint that a state says it is of, with its digest and name.
func read(ctx context.Context, folder *image.Folder, name, namespace, lineage string) (*v1alpha1.Checkpoint, error) {
	opened, err := folder.Discover(ctx, name)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	data, err := opened.ReadFile(ctx, stored.FileName, stored.MaxSize)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("it has no %s, which says whose it is", stored.FileName)
	}
	if err != nil {
		return nil, err
	}
	checkpoint, err := stored.Decode(data, namespace, lineage)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stored.FileName, err)
	}
	checkpoint.Status.StorageName, checkpoint.Status.ManifestDigest = name, opened.Checkpoint.Digest
	return checkpoint, nil
}

// begun returns the object that has the name already, if an earlier look made it for the same state and was cut off; nil if it is complete. The name may also
// be taken by something else.
func (l *look) begun(ctx context.Context, wanted *v1alpha1.Checkpoint) (*v1alpha1.Checkpoint, error) {
	there := &v1alpha1.Checkpoint{}
	if err := l.Live.Get(ctx, client.ObjectKeyFromObject(wanted), there); apierrors.IsNotFound(err) {
		return nil, errGone // together with it, or the next look knows more
	} else if err != nil {
		return nil, err
	}
	s := there.Status
	switch {
	case there.StorageName() == wanted.Status.StorageName: // the cache was late
		return nil, nil
	case !there.DeletionTimestamp.IsZero():
		return nil, errGone // the same
	case there.Annotations[keys.SyncedFrom] == l.location.Name && there.Spec == wanted.Spec && s.StorageName == "" && s.ManifestDigest == "":
		return there, nil
	}
	return nil, fmt.Errorf("the name %s is that of another Checkpoint", there.Name)
}

// describe writes what is known of a state into the status of its Checkpoint.
func (l *look) describe(ctx context.Context, made *v1alpha1.Checkpoint, known v1alpha1.CheckpointStatus) error {
	source := *known.Source
	if made.Status.Source != nil { // it cannot change
		source = *made.Status.Source
	}
	status := apply.CheckpointStatus().WithSource(origin.Apply(source)).WithCaptureTime(*known.CaptureTime).
		WithLocationName(l.location.Name).WithStorageName(known.StorageName).WithManifestDigest(known.ManifestDigest).
		WithConditions(l.isTrue(made, v1alpha1.CheckpointCaptured, "safe in the bucket"),
			l.isTrue(made, v1alpha1.CheckpointUploaded, "found in "+l.location.Name))
	for _, c := range known.Containers {
		entry := apply.CheckpointContainer().WithName(c.Name)
		entry.MemoryBytes = c.MemoryBytes
		if c.Image != "" {
			entry.WithImage(c.Image)
		}
		if c.ImageDigest != "" {
			entry.WithImageDigest(c.ImageDigest)
		}
		status.WithContainers(entry)
	}
	if m := known.Machine; m != nil {
		machine := apply.CheckpointMachine().WithArchitecture(m.Architecture).WithKernel(m.Kernel).WithPageSizeBytes(m.PageSizeBytes).
			WithInstructions(m.Instructions).WithXSaveBytes(m.XSaveBytes)
		if m.ControlGroups > 0 {
			machine.WithControlGroups(m.ControlGroups)
		}
		status.WithMachine(machine)
	}
	status.SizeBytes, status.Size, status.Frozen = known.SizeBytes, known.Size, known.Frozen
	wanted := apply.Checkpoint(made.Name, made.Namespace).WithUID(made.UID).WithStatus(status)
	return l.Client.Status().Apply(ctx, wanted, client.FieldOwner(keys.SyncFields), client.ForceOwnership)
}

func (l *look) isTrue(made *v1alpha1.Checkpoint, kind, message string) *metav1apply.ConditionApplyConfiguration {
	return condition.Apply(made.Status.Conditions,
		metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: v1alpha1.StateCompleted, Message: message}, l.Now())
}
