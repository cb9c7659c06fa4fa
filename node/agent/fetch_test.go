package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/storage"
)

// tree makes files in a new folder.
func tree(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// filesIn returns the names of the files below a folder.
func filesIn(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestLinkTree(t *testing.T) {
	dir := tree(t, "capture.json", "agent.json", "agent.json.new", "containers/app/criu/pages-1.img", "containers/agent/rootfs.tar")
	target := filepath.Join(t.TempDir(), "restores/new/image")
	if err := os.MkdirAll(filepath.Join(target+".partial", "left"), 0o700); err != nil { // by an agent that was killed
		t.Fatal(err)
	}
	if err := linkTree(dir, target); err != nil {
		t.Fatal(err)
	}
	want := []string{"capture.json", "containers/agent/rootfs.tar", "containers/app/criu/pages-1.img"}
	if diff := cmp.Diff(want, filesIn(t, target)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if isThere(target+".partial") || isThere(filepath.Join(target, "left")) {
		t.Error("what a killed agent left is still there")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(target, "containers/app/criu/pages-1.img")); err != nil || len(data) == 0 {
		t.Errorf("it went with its source: %v", err)
	}
}

func TestLinkTreeDoesNotFollowSymlinks(t *testing.T) {
	dir, target := tree(t, "capture.json"), filepath.Join(t.TempDir(), "image")
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "pages-1.img")); err != nil {
		t.Fatal(err)
	}
	if err := linkTree(dir, target); err == nil || isThere(target) {
		t.Errorf("it says %v, and the target is there: %t", err, isThere(target))
	}
}

func TestLocalCaptureIsTheNewestComplete(t *testing.T) {
	pod := newPod("a")
	for what, test := range map[string]struct {
		folders map[string]capture.State
		want    string
	}{
		"none":                       {},
		"by number, not by name":     {folders: map[string]capture.State{"9": capture.Complete, "10": capture.Complete}, want: "10"},
		"the newest failed":          {folders: map[string]capture.State{"1": capture.Complete, "2": capture.Failed}, want: "1"},
		"the newest has no name yet": {folders: map[string]capture.State{"1": capture.Complete, "2.partial": capture.Complete}, want: "1"},
		"the newest is removed":      {folders: map[string]capture.State{"1": capture.Complete, "removed-2": capture.Complete}, want: "1"},
		"only one that is under way": {folders: map[string]capture.State{"1.partial": capture.Dumping}},
	} {
		b := newBench(t)
		for _, name := range slices.Sorted(maps.Keys(test.folders)) {
			b.captured(pod, name, test.folders[name])
		}
		want := test.want
		if want != "" {
			want = filepath.Join(b.Node.Captures("a-uid"), want)
		}
		if got := b.localCapture("a-uid"); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
}

func TestAStateComesFromThisNodeOrTheBucket(t *testing.T) {
	pod, successor := newPod("a"), newPod("new")
	b := noted(t, pod)
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	c := b.checkpoint("a-a-uid")
	for _, from := range []string{"this node", "the bucket", "what was fetched before"} {
		record, err := b.fetch(t.Context(), successor, c)
		if err != nil || record.Pod.UID != "a-uid" {
			t.Fatalf("from %s: %+v, %v", from, record, err)
		}
		if data, err := os.ReadFile(filepath.Join(b.stateOf(successor, c), "containers/app/criu/pages-1.img")); err != nil || string(data) != "memory" {
			t.Errorf("from %s: %q, %v", from, data, err)
		}
		switch from {
		case "this node":
			if err := errors.Join(b.remove(dir), os.RemoveAll(b.stateOf(successor, c))); err != nil {
				t.Fatal(err)
			}
		case "the bucket":
			b.store.broken = storage.ErrUnavailable
		}
	}
	if _, err := b.fetch(t.Context(), newPod("third"), c); !errors.Is(err, storage.ErrUnavailable) || isForGood(err) {
		t.Errorf("while the bucket is away it says %v, for good: %t", err, isForGood(err))
	}
	b.store.broken = nil
	for key := range b.store.objects {
		b.store.objects[key] = []byte("something else")
	}
	if _, err := b.fetch(t.Context(), newPod("third"), c); !isForGood(err) || isThere(b.stateOf(newPod("third"), c)) {
		t.Errorf("what was changed in the bucket: it says %v, the image is there: %t", err, isThere(b.stateOf(newPod("third"), c)))
	}
}

// seen is a store that is looked at whenever something is read of it.
type seen struct {
	storage.Store
	look func()
}

func (s seen) Get(ctx context.Context, key string, r storage.Range) (io.ReadCloser, error) {
	s.look()
	return s.Store.Get(ctx, key, r)
}

func TestTheRoomOfAStateIsReservedAsLongAsItIsFetched(t *testing.T) {
	pod, successor := newPod("a"), newPod("new")
	b := noted(t, pod)
	reserved, most := filepath.Join(b.Node.Restores(string(successor.UID)), capture.ReservedFile), int64(0)
	var mu sync.Mutex
	b.Open = func(context.Context, *v1alpha1.CheckpointStorageLocation, map[string][]byte) (storage.Store, error) {
		return seen{b.store, func() {
			mu.Lock()
			defer mu.Unlock()
			if data, err := os.ReadFile(reserved); err == nil {
				n, _ := strconv.ParseInt(string(data), 10, 64)
				most = max(most, n)
			}
		}}, nil
	}
	dir := b.captured(pod, "1", capture.Complete)
	b.look(dir)
	if err := b.remove(dir); err != nil {
		t.Fatal(err)
	}
	earlier := filepath.Join(b.Node.Restores(string(successor.UID)), "states", "earlier") // of the same pod, which is fetched no more
	if err := errors.Join(os.MkdirAll(filepath.Dir(earlier), 0o700), os.WriteFile(earlier, make([]byte, 1<<20), 0o600)); err != nil {
		t.Fatal(err)
	}
	c := b.checkpoint("a-a-uid")
	if _, err := b.fetch(t.Context(), successor, c); err != nil {
		t.Fatal(err)
	}
	if want := *c.Status.SizeBytes + 1<<20; most < want {
		t.Errorf("%d bytes were reserved, want %d or more", most, want)
	}
	if isThere(reserved) {
		t.Error("they are reserved still")
	}
}

func TestNothingIsToldOfATransferThatEnded(t *testing.T) {
	b := newBench(t)
	begun, going, told := make(chan struct{}), make(chan struct{}), 0
	report, stop := b.progress(func(int64, int64) {
		close(begun)
		<-going
		told++
	})
	b.now = b.now.Add(progressInterval)
	report(1, 3)
	<-begun
	report(2, 3) // does not wait for the one that is being told
	time.AfterFunc(10*time.Millisecond, func() { close(going) })
	stop()
	if told != 1 {
		t.Errorf("it stopped while the last report was on its way")
	}
	b.now = b.now.Add(time.Hour)
	report(2, 3)
}
