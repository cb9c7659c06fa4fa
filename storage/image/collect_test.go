package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

// TestWhoDeletesSeesThatAManifestIsNotWhole, wherever it is damaged: packs that it might name stay.
func TestWhoDeletesSeesThatAManifestIsNotWhole(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		memory(1).upload(t, f, "kept")
		key := f.key(manifestKind, "kept")
		whole := object(t, f, key)
		packs := len(keys(t, f.Store, f.key(packKind)))
		for at := 0; at < len(whole); at += max(1, len(whole)/50) {
			flipped := bytes.Clone(whole)
			flipped[at] ^= 1
			for what, damaged := range map[string][]byte{"cut off": whole[:at], "changed": flipped} {
				if at >= 12 && at < sumAt && len(f.Keys) == 0 && what == "changed" { // nobody reads that
					continue
				}
				if err := f.Store.Put(t.Context(), key, storage.Bytes(damaged), storage.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				expectError(t, fmt.Sprintf("%s at byte %d", what, at), f.Delete(t.Context(), "other"), storage.ErrCorrupt, storage.ErrAccessDenied)
			}
		}
		if left := len(keys(t, f.Store, f.key(packKind))); left != packs {
			t.Errorf("of %d packs %d are left", packs, left)
		}
		if err := f.Store.Put(t.Context(), key, storage.Bytes(whole), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := f.Delete(t.Context(), "other"); err != nil {
			t.Error(err)
		}
	})
}

func object(t *testing.T, f *Folder, key string) []byte {
	t.Helper()
	data, err := f.get(t.Context(), key, maxManifestSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// lingering is a store that takes its time, and notes how many objects are read at once.
type lingering struct {
	storage.Store
	mu   sync.Mutex
	now  int
	most int
}

func (s *lingering) Get(ctx context.Context, key string, part storage.Range) (io.ReadCloser, error) {
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	time.Sleep(20 * time.Millisecond)
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	return s.Store.Get(ctx, key, part)
}

func TestManifestsAreReadBesideEachOther(t *testing.T) {
	t.Parallel()
	f := folder(t)
	for i := range 20 {
		memory(1).upload(t, f, fmt.Sprint("c", i))
	}
	store := &lingering{Store: f.Store}
	f.Store = store
	if err := f.Delete(t.Context(), "c0"); err != nil {
		t.Fatal(err)
	}
	if store.most < 2 || store.most > atOnce {
		t.Errorf("%d were read at once; it may be 2 to %d", store.most, atOnce)
	}
}
