package image

import (
	"context"
	"fmt"
	"path"

	"golang.org/x/sync/errgroup"

	"github.com/transparent-checkpoint/operator/storage"
)

// deletions is how many objects are deleted at once.
const deletions = 16

// Delete removes all that is below a prefix: the manifest first, so that nobody begins to fetch what is going, then everything else. That
// nothing is there, or no longer, is no error.
func Delete(ctx context.Context, store storage.Store, prefix string) error {
	if err := deleteAll(ctx, store, prefix); err != nil {
		return fmt.Errorf("delete the checkpoint at %q: %w", prefix, err)
	}
	return nil
}

func deleteAll(ctx context.Context, store storage.Store, prefix string) error {
	if err := storage.CheckKey("prefix", prefix); err != nil { // an empty one would be all of the store
		return err
	}
	if err := store.Delete(ctx, path.Join(prefix, manifestName)); err != nil {
		return err
	}
	var keys []string
	for info, err := range store.List(ctx, prefix+"/", "") {
		if err != nil {
			return err
		}
		keys = append(keys, info.Key)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deletions)
	for _, key := range keys {
		group.Go(func() error { return store.Delete(ctx, key) })
	}
	return group.Wait()
}
