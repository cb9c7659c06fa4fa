package image

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/storage"
)

// spaceOf is what the objects of a folder take.
func spaceOf(t *testing.T, f *Folder) Space {
	t.Helper()
	var all []Space
	for space, err := range Spaces(t.Context(), f.Store, f.Keys, f.Name) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, space)
	}
	if len(all) != 1 || all[0].Folder != f.Name {
		t.Fatalf("the folders are %+v", all)
	}
	return all[0]
}

// sizes sums up what is in the store below some kinds of objects.
func sizes(t *testing.T, f *Folder, prefixes ...string) (sum int64) {
	t.Helper()
	for info, err := range f.Store.List(t.Context(), f.Name+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(info.Key, f.Name+"/"+p) }) {
			sum += info.Size
		}
	}
	return sum
}

func put(t *testing.T, f *Folder, key, content string) {
	t.Helper()
	if err := f.Store.Put(t.Context(), f.Name+"/"+key, storage.Bytes([]byte(content)), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestEachObjectIsCountedOnce, whoever needs it.
func TestEachObjectIsCountedOnce(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		p := memory(1)
		first, _ := p.upload(t, f, "first")
		p.change(2, 5).upload(t, f, "second", first)
		put(t, f, "intents/third", `{"version":2,"packs":[]}`)
		put(t, f, "packs/third/0011", "under way")
		put(t, f, "packs/gone/0022", "left behind")
		put(t, f, "index/gone", "left")
		got := spaceOf(t, f)
		want := Space{
			Folder: f.Name, Objects: 2*2 + len(keys(t, f.Store, f.key(packKind))) + 1 + 1, Bytes: sizes(t, f, ""), Shared: sizes(t, f, "packs/first"),
			Uploading: sizes(t, f, "intents/", "packs/third/"), Unnamed: sizes(t, f, "packs/gone/", "index/gone"),
			Checkpoints: []Taken{
				{Name: "first", Own: sizes(t, f, "manifests/first", "index/first"), Shared: sizes(t, f, "packs/first")},
				{Name: "second", Own: sizes(t, f, "manifests/second", "index/second", "packs/second"), Shared: sizes(t, f, "packs/first")},
			},
		}
		for i := range got.Checkpoints {
			if c := &got.Checkpoints[i]; c.Modified.IsZero() || c.Logical == 0 {
				t.Errorf("of %s it says %+v", c.Name, c)
			} else {
				want.Checkpoints[i].Modified, want.Checkpoints[i].Logical = c.Modified, c.Logical
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("space (-want +got):\n%s", diff)
		}
		sum := got.Shared + got.Uploading + got.Unnamed
		for _, c := range got.Checkpoints {
			sum += c.Own
		}
		if sum != got.Bytes {
			t.Errorf("the parts are %d bytes, all is %d", sum, got.Bytes)
		}
	})
}

// TestWhatCannotBeReadKeepsItsPacks: they are no garbage.
func TestWhatCannotBeReadKeepsItsPacks(t *testing.T) {
	t.Parallel()
	f := folder(t)
	f.Keys = testKeys
	memory(1).upload(t, f, "secret")
	f.Keys = nil
	got := spaceOf(t, f)
	if c := got.Checkpoints[0]; got.Unnamed > 0 || c.Own != got.Bytes || c.Logical != 0 || !strings.Contains(c.Problem, "is not among the 0 known ones") {
		t.Errorf("space is %+v", got)
	}
}
