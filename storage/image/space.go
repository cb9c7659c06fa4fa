package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/storage"
)

// Space is what the objects of a folder take in the store, in bytes. Each object is counted once: Bytes is the sum of what its checkpoints have alone, of
// Shared, Uploading and Unnamed.
type Space struct {
	// Folder is its name.
	Folder string
	// Checkpoints are those that are there, by their names in order.
	Checkpoints []Taken
	// Objects is how many there are, and Bytes what they take.
	Objects int
	Bytes   int64
	// Shared is what packs take that more than one checkpoint needs.
	Shared int64
	// Uploading is what uploads have put that are not at their end, or were cut off.
	Uploading int64
	// Unnamed is what no checkpoint needs and no upload goes on with: the next deletion in the folder removes it.
	Unnamed int64
}

// Taken is what a checkpoint takes.
type Taken struct {
	Name string
	// Modified is when its manifest was put, by the clock of the store.
	Modified time.Time
	// Logical is what its files have, holes included, in bytes.
	Logical int64
	// Own is what objects take that it alone needs, and Shared what packs take that others need as well: what all of them have in common is in each one's.
	Own, Shared int64
	// Problem says why its manifest cannot be read; then Logical is 0, and the packs that it has put itself are taken for its own.
	Problem string
}

// Spaces yields what the folders take that the prefix names, or whose names begin with it and a slash, in their order. It reads the manifests, one folder
// after the other, and ends with the first error of the store.
func Spaces(ctx context.Context, store storage.Store, keys Keys, prefix string) iter.Seq2[Space, error] {
	return func(yield func(Space, error) bool) {
		var at *objects
		finish := func() bool {
			if at == nil {
				return true
			}
			space, err := (&Folder{Store: store, Name: at.folder, Keys: keys}).space(ctx, at)
			return yield(space, err) && err == nil
		}
		for info, err := range store.List(ctx, prefix+"/", "") {
			if err != nil {
				yield(Space{}, fmt.Errorf("list what is in %s: %w", prefix, err))
				return
			}
			folder, kind, name, ok := splitKey(info.Key)
			if !ok {
				continue
			}
			if at == nil || at.folder != folder {
				if !finish() {
					return
				}
				at = &objects{folder: folder, of: map[string]map[string]storage.Info{}}
			}
			if at.of[kind] == nil {
				at.of[kind] = map[string]storage.Info{}
			}
			at.of[kind][name] = info
		}
		finish()
	}
}

// objects are those of one folder, by kind and name.
type objects struct {
	folder string
	of     map[string]map[string]storage.Info
}

// splitKey takes the key of an object apart; false says that no folder has such a one.
func splitKey(key string) (folder, kind, name string, ok bool) {
	dir, last := path.Split(key)
	folder, kind = path.Split(strings.TrimSuffix(dir, "/"))
	if slices.Contains([]string{intentKind, indexKind, manifestKind}, kind) && folder != "" {
		return strings.TrimSuffix(folder, "/"), kind, last, true
	}
	name = path.Join(kind, last)
	folder, kind = path.Split(strings.TrimSuffix(folder, "/"))
	return strings.TrimSuffix(folder, "/"), kind, name, kind == packKind && folder != ""
}

// space counts what the objects of the folder take.
func (f *Folder) space(ctx context.Context, at *objects) (Space, error) {
	s := Space{Folder: f.Name}
	users, needs := map[string]int{}, map[string][]string{} // how many need a pack; the packs that a checkpoint needs
	for _, name := range slices.Sorted(maps.Keys(at.of[manifestKind])) {
		taken := Taken{Name: name, Modified: at.of[manifestKind][name].Modified}
		packs, logical, err := f.contents(ctx, name)
		switch {
		case errors.Is(err, storage.ErrNotExist): // it was deleted meanwhile: what it had is not counted as anybody's
			continue
		case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrNoKey):
			taken.Problem = err.Error()
			for pack := range at.of[packKind] {
				if writer, _, _ := strings.Cut(pack, "/"); writer == name {
					packs = append(packs, pack)
				}
			}
		case err != nil:
			return s, fmt.Errorf("read what %s needs: %w", f.Name, err)
		}
		taken.Logical, needs[name] = logical, packs
		for _, pack := range packs {
			users[pack]++
		}
		s.Checkpoints = append(s.Checkpoints, taken)
	}
	for i := range s.Checkpoints {
		taken := &s.Checkpoints[i]
		taken.Own = at.of[manifestKind][taken.Name].Size + at.of[indexKind][taken.Name].Size
		for _, pack := range needs[taken.Name] {
			if users[pack] > 1 {
				taken.Shared += at.of[packKind][pack].Size
			} else {
				taken.Own += at.of[packKind][pack].Size
			}
		}
	}
	for kind, all := range at.of {
		for name, info := range all {
			s.Objects++
			s.Bytes += info.Size
			writer, _, _ := strings.Cut(name, "/")
			_, uploads := at.of[intentKind][writer]
			_, isWhole := needs[writer]
			switch {
			case kind == packKind && users[name] > 1:
				s.Shared += info.Size
			case kind == packKind && users[name] == 1, kind != packKind && kind != intentKind && isWhole:
			case uploads:
				s.Uploading += info.Size
			default:
				s.Unnamed += info.Size
			}
		}
	}
	return s, nil
}

// contents returns the packs that a checkpoint needs, and how many bytes its files have. It reads all of the manifest, to see that it is whole, and keeps
// little.
func (f *Folder) contents(ctx context.Context, checkpoint string) (packs []string, logical int64, err error) {
	key := f.key(manifestKind, checkpoint)
	body, err := f.Store.Get(ctx, key, storage.Range{})
	if err != nil {
		return nil, 0, err
	}
	defer body.Close()
	text, err := f.Keys.openHead(io.LimitReader(body, maxManifestSize))
	if err != nil {
		return nil, 0, fmt.Errorf("manifest %s: %w", key, err)
	}
	var named struct {
		Packs   []pack `json:"packs"`
		Entries []struct {
			Size int64 `json:"size"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(text, &named); err != nil {
		return nil, 0, fmt.Errorf("manifest %s: %w: %w", key, storage.ErrCorrupt, err)
	}
	for i := range named.Packs {
		packs = append(packs, named.Packs[i].Name)
	}
	slices.Sort(packs)
	for i := range named.Entries {
		logical += named.Entries[i].Size
	}
	return slices.Compact(packs), logical, nil
}
