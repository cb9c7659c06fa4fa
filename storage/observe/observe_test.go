package observe

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/storage/storagetest"
)

func open(t *testing.T) storage.Store {
	t.Helper()
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store { return New(open(t), func(string, time.Duration, error) {}) })
}

func TestEachCallIsToldOfOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	said := map[string]int{}
	store := New(open(t), func(method string, _ time.Duration, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			method += " failed"
		}
		said[method]++
	})
	ctx := t.Context()
	part := bytes.NewReader(make([]byte, storage.MinPartSize))
	upload, err := store.Begin(ctx, "parts")
	if err != nil {
		t.Fatal(err)
	}
	first, err := store.PutPart(ctx, upload, 1, storage.Section(part, 0, storage.MinPartSize))
	if err != nil {
		t.Fatal(err)
	}
	_, parts := store.Parts(ctx, upload)
	_, missing := store.Stat(ctx, "none")
	err = errors.Join(parts, store.Complete(ctx, upload, []storage.Part{first}), store.Abort(ctx, upload), store.Put(ctx, "a", storage.Bytes([]byte("a")),
		storage.PutOptions{}))
	for _, listErr := range store.List(ctx, "", "") {
		err = errors.Join(err, listErr)
		break
	}
	body, getErr := store.Get(ctx, "a", storage.Range{})
	if err = errors.Join(err, getErr); err != nil || missing == nil {
		t.Fatal(err, missing)
	}
	_, err = io.ReadAll(body)
	if err = errors.Join(err, body.Close(), store.Delete(ctx, "a")); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"Begin": 1, "PutPart": 1, "Parts": 1, "Stat failed": 1, "Complete": 1, "Abort": 1, "Put": 1, "List": 1, "Get": 1, "Delete": 1}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestABodyThatBreaksIsToldOfOnce(t *testing.T) {
	t.Parallel()
	var said []string
	r := &reader{ReadCloser: io.NopCloser(io.MultiReader(strings.NewReader("some"), iotest.ErrReader(storage.ErrUnavailable))),
		tell: func(method string, _ time.Duration, err error) { said = append(said, method+": "+err.Error()) }}
	for range 3 {
		if _, err := io.ReadAll(r); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("it says %v", err)
		}
	}
	if diff := cmp.Diff([]string{"Read: " + storage.ErrUnavailable.Error()}, said); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
