package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/storage/image"
)

const (
	// aheadFrom is how many bytes of a process's memory have to be written before it is worth while to send them ahead.
	aheadFrom     = 64 << 20
	aheadInterval = 20 * time.Millisecond
)

// ahead is an upload of memory that the runtime is still writing.
type ahead struct {
	ended chan struct{}
	sent  int64
}

func (h *ahead) hasEnded() bool {
	select {
	case <-h.ended:
		return true
	default:
		return false
	}
}

// beginAhead sends what a capture consists of while it is written, so that it is durable soon after (design C9). It needs a free slot, and nobody waits
// for it but the upload: whatever goes wrong here, that one finds out and tells.
func (a *Agent) beginAhead(ctx context.Context, dir string, checkpoint *v1alpha1.Checkpoint, source v1alpha1.CheckpointSource, slots *slots) {
	if a.uploadsOther(dir) {
		return
	}
	leave := slots.take(false)
	if leave == nil {
		return
	}
	h := &ahead{ended: make(chan struct{})}
	a.mu.Lock()
	a.ahead[strings.TrimSuffix(dir, ".partial")] = h
	a.mu.Unlock()
	checkpoint = checkpoint.DeepCopy()
	go func() {
		defer leave()
		defer close(h.ended)
		var err error
		if h.sent, err = a.sendAhead(ctx, dir, checkpoint, source); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "send memory ahead")
		}
	}()
}

// endAhead waits until nothing is sent ahead any more, and returns how many bytes were.
func (a *Agent) endAhead(dir string) int64 {
	a.mu.Lock()
	h := a.ahead[dir]
	delete(a.ahead, dir)
	a.mu.Unlock()
	if h == nil {
		return 0
	}
	<-h.ended
	return h.sent
}

// sendAhead sends memory until the folder has got its final name. Where there is a base, most pages need not be sent at all, and the upload finds out
// which when it has their addresses.
func (a *Agent) sendAhead(ctx context.Context, dir string, checkpoint *v1alpha1.Checkpoint, source v1alpha1.CheckpointSource) (int64, error) {
	for largest(pagesIn(dir)) < aheadFrom {
		if !isDumping(ctx, dir) {
			return 0, nil
		}
		time.Sleep(aheadInterval)
	}
	location, bucket, err := a.uploadBucket(ctx, checkpoint)
	if err != nil {
		return 0, err
	}
	if quota, err := a.quotaOf(ctx, checkpoint.Namespace); err != nil || quota > 0 { // whether it fits is known when it is written
		return 0, err
	}
	if err := a.mayUpload(ctx, checkpoint, 0); err != nil {
		return 0, err
	}
	if bases, err := a.bases(ctx, checkpoint, &source, location); err != nil || len(bases) > 0 {
		return 0, err
	}
	folder := folderOf(checkpoint.Namespace, &source, bucket)
	// First of all it is written down where something may lie, for whoever deletes the Checkpoint or finds it deleted.
	if err := a.apply(ctx, checkpoint, dumping(source, location)); err != nil {
		return 0, err
	}
	m := memo{CheckpointUID: checkpoint.StorageName(), Location: location, Folder: folder.Name}
	if err := capture.NoteJSON(filepath.Join(dir, memoFile), m); err != nil {
		return 0, err
	}
	sender, err := folder.Ahead(ctx, checkpoint.StorageName(), dir, filepath.Join(dir, uploadState))
	if errors.Is(err, image.ErrBegun) { // by an agent that was killed
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for isDumping(ctx, dir) {
		for path, size := range pagesIn(dir) {
			if err = sender.Grow(path, size); err != nil {
				break
			}
		}
		time.Sleep(aheadInterval)
	}
	return sender.Close()
}

func isDumping(ctx context.Context, dir string) bool {
	_, err := os.Stat(dir)
	return err == nil && ctx.Err() == nil
}

// pagesIn returns the files with pages in the folder of a capture, and how many bytes they have.
func pagesIn(dir string) map[string]int64 {
	files, err := filepath.Glob(filepath.Join(dir, "containers/*/criu/pages-*.img"))
	if err != nil {
		return nil
	}
	sizes := map[string]int64{}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			sizes[strings.TrimPrefix(file, dir+"/")] = info.Size()
		}
	}
	return sizes
}

func largest(sizes map[string]int64) (most int64) {
	for _, size := range sizes {
		most = max(most, size)
	}
	return most
}
