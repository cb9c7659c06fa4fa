package inspection

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/internal/secrets"
	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// Inspector looks into the buckets of a cluster.
type Inspector struct {
	Reader client.Reader
	// Namespace is the operator's own, in which the Secrets of locations are.
	Namespace string
	// Open opens the store of a location, with the data of the Secrets that it names.
	Open func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error)
}

// bucket is the store of a location, with its keys.
type bucket struct {
	store storage.Store
	keys  image.Keys
}

func (i *Inspector) bucket(ctx context.Context, location *v1alpha1.CheckpointStorageLocation) (bucket, error) {
	held, err := secrets.Read(location, i.Namespace, func(name string) (*corev1.Secret, error) {
		secret := &corev1.Secret{}
		return secret, i.Reader.Get(ctx, client.ObjectKey{Namespace: i.Namespace, Name: name}, secret)
	})
	if err != nil {
		return bucket{}, fmt.Errorf("storage location %q: %w", location.Name, err)
	}
	store, err := i.Open(ctx, location, held.Data)
	return bucket{store, held.Keys}, err
}

// state is the state of a Checkpoint in its bucket.
type state struct {
	checkpoint *v1alpha1.Checkpoint
	bucket
	folder *image.Folder
	name   image.Checkpoint
}

// errNotStored says that no bucket has the state of a Checkpoint.
var errNotStored = errors.New("no bucket has its state")

// checkpoint reads one.
func (i *Inspector) checkpoint(ctx context.Context, of client.ObjectKey) (*v1alpha1.Checkpoint, error) {
	found := &v1alpha1.Checkpoint{}
	err := i.Reader.Get(ctx, of, found)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no Checkpoint %q in namespace %q", of.Name, of.Namespace)
	}
	return found, err
}

// state finds the state of a Checkpoint. Where no bucket has it, errNotStored is in the error, which says where it is.
func (i *Inspector) state(ctx context.Context, of client.ObjectKey) (*state, error) {
	found, err := i.checkpoint(ctx, of)
	if err != nil {
		return nil, err
	}
	status := &found.Status
	switch {
	case status.Volume != nil:
		return nil, fmt.Errorf("%w: it is in %s, file %s, which pods of namespace %s alone can read",
			errNotStored, status.Volume, status.Volume.File, found.Namespace)
	case status.Source == nil:
		return nil, fmt.Errorf("%w: nothing was captured yet", errNotStored)
	case status.ManifestDigest == "":
		return nil, fmt.Errorf("%w: what there is of it is on node %s", errNotStored, status.Source.Node)
	}
	location := &v1alpha1.CheckpointStorageLocation{}
	if err := i.Reader.Get(ctx, client.ObjectKey{Name: status.LocationName}, location); err != nil {
		return nil, fmt.Errorf("storage location %q: %w", status.LocationName, err)
	}
	opened, err := i.bucket(ctx, location)
	if err != nil {
		return nil, err
	}
	folder := &image.Folder{Store: opened.store, Name: keys.StorageFolder(found.Namespace, status.Source.Lineage), Keys: opened.keys}
	return &state{found, opened, folder, image.Checkpoint{Name: found.StorageName(), Digest: status.ManifestDigest}}, nil
}
