package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/transparent-checkpoint/operator/storage"
)

const (
	atOnce     = 16       // objects that are deleted or read at once
	headMemory = 64 << 20 // bytes of manifests that are read at once
)

// Delete removes a checkpoint: its manifest first, so that nobody begins to fetch what is going, then what nothing else in the folder needs. That it
// is not there, or no longer, is no error. Uploads may go on meanwhile. In a folder one Delete goes on at a time: of one process, the others wait.
func (f *Folder) Delete(ctx context.Context, checkpoint string) error {
	err := f.check(checkpoint)
	if err == nil {
		var done func()
		if done, err = deletions.lock(ctx, f.Name); err == nil {
			defer done()
		}
	}
	for _, kind := range []string{manifestKind, indexKind, intentKind} {
		if err == nil {
			err = f.Store.Delete(ctx, f.key(kind, checkpoint))
		}
	}
	if err == nil {
		err = f.collect(ctx)
	}
	if err != nil {
		return fmt.Errorf("delete the checkpoint %s of %s: %w", checkpoint, f.Name, err)
	}
	return nil
}

// collect removes the packs and indexes that nothing needs. The order in which it looks is what makes it safe beside uploads; docs/storage-format.md,
// section 8, has the proof.
func (f *Folder) collect(ctx context.Context) error {
	packs, err := f.list(ctx, packKind)
	if err != nil {
		return err
	}
	indexes, err := f.list(ctx, indexKind)
	if err != nil || len(packs)+len(indexes) == 0 {
		return err
	}
	// It looks twice, for the sake of deletions by others at the same time: what came between the first look at the intents and at the manifests
	// is seen by the second one.
	look := &needs{packs: map[string]bool{}, uploading: map[string]bool{}, manifests: map[string]bool{}}
	for range 2 {
		if err := f.look(ctx, look); err != nil {
			return err
		}
	}
	if look.vanished { // whoever deleted it collects after that
		return nil
	}
	var garbage []string
	for name := range packs {
		writer, _, _ := strings.Cut(name, "/")
		if !look.uploading[writer] && !look.packs[name] {
			garbage = append(garbage, f.key(packKind, name))
		}
	}
	for name := range indexes {
		if !look.uploading[name] && !look.manifests[name] {
			garbage = append(garbage, f.key(indexKind, name))
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, key := range garbage {
		group.Go(func() error { return f.Store.Delete(ctx, key) })
	}
	return group.Wait()
}

// needs is what may not be deleted.
type needs struct {
	packs     map[string]bool // by name
	uploading map[string]bool // checkpoints
	manifests map[string]bool // of checkpoints
	vanished  bool            // a manifest went while they were read
}

// look adds what is needed at this moment: first what intents name, then what manifests name. A manifest that cannot be read might name any pack, so it is
// an error.
func (f *Folder) look(ctx context.Context, needs *needs) error {
	intents, err := f.intents(ctx)
	if err != nil {
		return err
	}
	for writer, names := range intents {
		needs.uploading[writer] = true
		for _, name := range names {
			needs.packs[name] = true
		}
	}
	manifests, err := f.list(ctx, manifestKind)
	if err != nil {
		return err
	}
	for name := range needs.manifests {
		delete(manifests, name)
	}
	var mu sync.Mutex
	memory := semaphore.NewWeighted(headMemory)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for name, size := range manifests {
		group.Go(func() error {
			weight := min(size, headMemory)
			if err := memory.Acquire(ctx, weight); err != nil {
				return err
			}
			defer memory.Release(weight)
			packs, err := f.packsOf(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, storage.ErrNotExist) {
				needs.vanished = true
				return nil
			}
			if err != nil {
				return err
			}
			needs.manifests[name] = true
			for i := range packs {
				needs.packs[packs[i].Name] = true
			}
			return nil
		})
	}
	return group.Wait()
}

// packsOf returns the packs that a manifest names. It reads all of it, to see that it is whole, and keeps little.
func (f *Folder) packsOf(ctx context.Context, checkpoint string) ([]pack, error) {
	key := f.key(manifestKind, checkpoint)
	body, err := f.Store.Get(ctx, key, storage.Range{})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := f.Keys.openHead(io.LimitReader(body, maxManifestSize))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", key, err)
	}
	var named struct {
		Packs []pack `json:"packs"`
	}
	if err := json.Unmarshal(text, &named); err != nil {
		return nil, fmt.Errorf("manifest %s: %w: %w", key, storage.ErrCorrupt, err)
	}
	return named.Packs, nil
}

// folderLocks has a lock for each name of a folder in which something is deleted.
type folderLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when it is free again
}

var deletions = &folderLocks{held: map[string]chan struct{}{}}

func (l *folderLocks) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		held := l.held[name]
		if held == nil {
			mine := make(chan struct{})
			l.held[name] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.held, name)
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
