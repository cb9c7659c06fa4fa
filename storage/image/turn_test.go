package image

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

// slow is a store in which packs of one checkpoint are not put before it is told so.
type slow struct {
	storage.Store
	name   string
	began  chan struct{} // for each pack that waits
	goOn   chan struct{}
	mu     sync.Mutex
	passed []string // whose packs were put, in that order
}

func (s *slow) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	kind, name, _ := strings.Cut(strings.TrimPrefix(key, testFolder+"/"), "/")
	if kind == packKind && strings.HasPrefix(name, s.name+"/") {
		s.began <- struct{}{}
		<-s.goOn
	}
	if kind == packKind {
		name, _, _ = strings.Cut(name, "/")
		s.mu.Lock()
		s.passed = append(s.passed, name)
		s.mu.Unlock()
	}
	return s.Store.Put(ctx, key, body, opts)
}

// TestBackgroundUploadsLetOthersGoFirst has one of them send as much at once as it may, slowly; another upload finds memory all the same.
func TestBackgroundUploadsLetOthersGoFirst(t *testing.T) {
	t.Parallel()
	const packs = 4
	store := &slow{Store: openStore(t), name: "periodic", began: make(chan struct{}, 100), goOn: make(chan struct{})}
	f := &Folder{Store: store, Name: testFolder, Memory: NewMemory(packs, 1)}
	dirs := map[string]string{"periodic": t.TempDir(), "termination": t.TempDir()}
	for name, dir := range dirs {
		sparse(t, filepath.Join(dir, "pages"), name[0], 64) // enough for all packers
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := f.Upload(ctx, "periodic", dirs["periodic"], UploadOptions{Background: true}); err != nil {
			t.Error(err)
		}
	})
	<-store.began
	<-store.began
	if _, err := f.Upload(ctx, "termination", dirs["termination"], UploadOptions{}); err != nil {
		t.Error(err)
	}
	if len(store.began) > 0 || len(store.passed) == 0 {
		t.Errorf("%d packs more than half of the memory are sent in the background", len(store.began))
	}
	close(store.goOn)
	group.Wait()
}
