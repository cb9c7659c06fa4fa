package image

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/transparent-checkpoint/operator/storage"
)

// flip changes a byte of an object.
func flip(t *testing.T, f *Folder, key string, at int) {
	t.Helper()
	body, err := f.Store.Get(t.Context(), key, storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	if err := f.Store.Put(t.Context(), key, storage.Bytes(data), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestAFlippedByteIsFound, with the file that has it, and the other checkpoint that needs it. What else there is is read all the same.
func TestAFlippedByteIsFound(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		p := memory(1)
		first, _ := p.upload(t, f, "first")
		second, _ := p.change(2, 5).upload(t, f, "second", first)
		whole, err := f.Examine(t.Context(), second, nil)
		if err != nil || len(whole.Damages) > 0 || whole.Files == 0 || whole.Bytes == 0 || whole.Stored == 0 || whole.Packs < 2 {
			t.Fatalf("before: %+v, %v", whole, err)
		}
		pack := keys(t, f.Store, f.key(packKind, "first"))[0]
		flip(t, f, pack, 3)
		most := int64(0)
		got, err := f.Examine(t.Context(), second, func(done, total int64) {
			if most = max(most, done); done > total {
				t.Errorf("%d bytes of %d are done", done, total)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		want := whole
		want.Damages = []Damage{{
			Object: pack, Pack: strings.TrimPrefix(pack, f.key(packKind)+"/"), Files: got.Damages[0].Files, Length: got.Damages[0].Length, Others: []string{"first"},
		}}
		ignored := cmp.Options{cmpopts.IgnoreFields(Damage{}, "Problem"), cmpopts.IgnoreUnexported(Damage{})}
		if diff := cmp.Diff(want, got, ignored); diff != "" {
			t.Errorf("examination (-want +got):\n%s", diff)
		}
		d := got.Damages[0]
		if len(d.Files) == 0 || d.Length == 0 || !strings.Contains(d.Problem, "digest") || most == 0 {
			t.Errorf("the damage is %+v, of %d bytes that were read", d, most)
		}
	})
}

// TestAllThatIsDamagedIsFound: a pack that is gone is one damage, a pack with two of them two.
func TestAllThatIsDamagedIsFound(t *testing.T) {
	t.Parallel()
	f, dir := folder(t), t.TempDir()
	write(t, dir, capture)
	summary, err := f.Upload(t.Context(), "c", dir, UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := Checkpoint{Name: "c", Digest: summary.ManifestDigest}
	pack := keys(t, f.Store, f.key(packKind))[0]
	m, err := f.manifest(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	var offsets []int64
	for _, number := range []int{0, len(m.frames) - 1} {
		if m.Packs[m.frames[number].pack].Name == strings.TrimPrefix(pack, f.key(packKind)+"/") {
			flip(t, f, pack, int(m.frames[number].offset))
			offsets = append(offsets, int64(m.frames[number].offset))
		}
	}
	got, err := f.Examine(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	var found []int64
	for _, d := range got.Damages {
		found = append(found, d.Offset)
	}
	slices.Sort(offsets)
	if diff := cmp.Diff(offsets, found); diff != "" {
		t.Errorf("damages (-want +got):\n%s", diff)
	}
	if err := f.Store.Delete(t.Context(), pack); err != nil {
		t.Fatal(err)
	}
	if got, err = f.Examine(t.Context(), c, nil); err != nil || len(got.Damages) != 1 || !strings.Contains(got.Damages[0].Problem, "is missing or too short") {
		t.Errorf("without the pack: %+v, %v", got.Damages, err)
	}
}

// TestAManifestThatIsDamagedOrGone: without it nothing can be read.
func TestAManifestThatIsDamagedOrGone(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c, _ := memory(1).upload(t, f, "c")
	flip(t, f, f.key(manifestKind, "c"), headSize+10)
	got, err := f.Examine(t.Context(), c, nil)
	if err != nil || len(got.Damages) != 1 || got.Damages[0].Object != f.key(manifestKind, "c") ||
		!strings.Contains(got.Damages[0].Problem, "it has to be sha256:") {
		t.Errorf("damaged: %+v, %v", got, err)
	}
	if err := f.Store.Delete(t.Context(), f.key(manifestKind, "c")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Examine(t.Context(), c, nil); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("gone: have the error %v, want %v", err, storage.ErrNotExist)
	}
}

// TestAStoreThatDoesNotAnswerIsNoDamage.
func TestAStoreThatDoesNotAnswerIsNoDamage(t *testing.T) {
	t.Parallel()
	f := folder(t)
	c, _ := memory(1).upload(t, f, "c")
	f.Store = &breaking{f.Store, packKind}
	if got, err := f.Examine(t.Context(), c, nil); !errors.Is(err, storage.ErrUnavailable) || len(got.Damages) > 0 {
		t.Errorf("have %+v, %v, want the error %v", got, err, storage.ErrUnavailable)
	}
}
