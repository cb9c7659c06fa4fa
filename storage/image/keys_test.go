package image

import (
	"context"
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/storage"
)

// withoutManifests is a store that takes no manifest.
type withoutManifests struct{ storage.Store }

func (s withoutManifests) Put(ctx context.Context, key string, body storage.Body, opts storage.PutOptions) error {
	if strings.Contains(key, "/"+manifestKind+"/") {
		return storage.ErrUnavailable
	}
	return s.Store.Put(ctx, key, body, opts)
}

// An upload that goes on after the keys were changed leaves nothing in the checkpoint that is plain, or encrypted with another key than today's.
func TestAnUploadGoesOnWithTheKeyOfToday(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]Keys{"without a key before": nil, "with another key before": testKeys[1:]} {
		f, p, dir, state := folder(t), memory(1), t.TempDir(), filepath.Join(t.TempDir(), "state")
		write(t, dir, p.images())
		store, opts := f.Store, UploadOptions{State: state}
		f.Store, f.Keys = withoutManifests{store}, before
		if _, err := f.Upload(t.Context(), "c", dir, opts); !errors.Is(err, storage.ErrUnavailable) {
			t.Fatalf("%s: have the error %v, want %v", name, err, storage.ErrUnavailable)
		}
		f.Store, f.Keys = store, testKeys[:1]
		summary, err := f.Upload(t.Context(), "c", dir, opts)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p.expect(t, f, Checkpoint{"c", summary.ManifestDigest})
		if m, err := f.manifest(t.Context(), Checkpoint{"c", summary.ManifestDigest}, nil); err != nil || !m.hasKey(hex.EncodeToString(f.Keys.current())) {
			t.Errorf("%s: its packs are %+v, %v", name, m.Packs, err)
		}
		f.Keys = testKeys[1:]
		again, err := f.Upload(t.Context(), "c", dir, opts) // that it was done is in a manifest that cannot be read any more
		if err != nil || again.Sent == 0 {
			t.Fatalf("%s: it sent %d bytes, %v", name, again.Sent, err)
		}
		p.expect(t, f, Checkpoint{"c", again.ManifestDigest})
	}
}
