// Package deleted notes which Checkpoints were deleted here although their data stays in a bucket, so that a sync of its location does not bring them back, and
// so that what could not be deleted is when it can. The notes of a location are a ConfigMap: its keys are storage names, its values say whose they were and,
// of those that are still to be deleted, in which folder of the bucket they lie: NAMESPACE/NAME, or NAMESPACE/NAME FOLDER. Whoever deletes it, or a key of
// it, brings those back, or leaves them for ever.
//
// It imports nothing of the other controllers. Start reading at Note.
package deleted

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// Name is the name of the ConfigMap of a location.
func Name(location string) string { return "checkpoint-deleted-" + location }

// Note notes a Checkpoint that is deleted, in the ConfigMap of its location in that namespace. Folder is where its data is still to be deleted from; empty
// where it stays. To note it again changes nothing.
func Note(ctx context.Context, c client.Client, namespace string, checkpoint *v1alpha1.Checkpoint, folder string) error {
	name, value := checkpoint.StorageName(), strings.TrimSpace(checkpoint.Namespace+"/"+checkpoint.Name+" "+folder)
	err := patch(ctx, c, namespace, checkpoint.Status.LocationName, map[string]any{name: value})
	if !apierrors.IsNotFound(err) {
		return err
	}
	notes := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Name(checkpoint.Status.LocationName)}, Data: map[string]string{name: value},
	}
	if err = c.Create(ctx, notes); apierrors.IsAlreadyExists(err) {
		return patch(ctx, c, namespace, checkpoint.Status.LocationName, map[string]any{name: value})
	}
	return err
}

// Read returns the notes of a location: storage names, and whose they were. It reads past the cache, or the manager would watch all ConfigMaps.
func Read(ctx context.Context, live client.Reader, namespace, location string) (map[string]string, error) {
	notes := &corev1.ConfigMap{}
	err := live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: Name(location)}, notes)
	return notes.Data, client.IgnoreNotFound(err)
}

// Leftover returns, of a note, whose data it is that is still to be deleted, and in which folder it lies; false where it stays.
func Leftover(note string) (of, folder string, is bool) { return strings.Cut(note, " ") }

// Drop removes notes of states that are no longer in the bucket.
func Drop(ctx context.Context, c client.Client, namespace, location string, names []string) error {
	keys := map[string]any{}
	for _, name := range names {
		keys[name] = nil
	}
	if len(keys) == 0 {
		return nil
	}
	return client.IgnoreNotFound(patch(ctx, c, namespace, location, keys))
}

// patch sets keys and leaves the others as they are, whoever writes them at the same time.
func patch(ctx context.Context, c client.Client, namespace, location string, keys map[string]any) error {
	text, err := json.Marshal(map[string]any{"data": keys})
	if err != nil {
		return fmt.Errorf("write notes: %w", err)
	}
	notes := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Name(location)}}
	return c.Patch(ctx, notes, client.RawPatch(types.MergePatchType, text))
}
