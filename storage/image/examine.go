package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/transparent-checkpoint/operator/storage"
)

// Damage is a range of an object that is not what was written: what follows each other and is wrong in the same way is one.
type Damage struct {
	// Object is its key in the store, and Pack its name in the folder; Pack is empty where the object is the manifest.
	Object, Pack string
	// Offset and Length are the range in the object, in bytes; both are 0 where that is the whole manifest.
	Offset, Length int64
	// Problem is what is wrong, in words.
	Problem string
	// Files are those of the checkpoint that have bytes there, in order.
	Files []string
	// Others are the names of the checkpoints of the folder that need bytes of the range, too, in order.
	Others []string

	frames []uint32 // numbers in the manifest
}

// Examination is what came of reading everything of a checkpoint.
type Examination struct {
	// Files and Bytes are the regular files, and how many bytes they have, holes included.
	Files int
	Bytes int64
	// Stored is how many bytes of packs were read, and Packs of how many.
	Stored int64
	Packs  int
	// Damages are in the order of the packs; none says that all is as it was written.
	Damages []Damage
	// Unread are the names of checkpoints of the folder whose manifests cannot be read: whether they need what is damaged is not known.
	Unread []string
}

// Examine reads everything of a checkpoint, as Verify does, and goes on after what is damaged, so that it is known how much that is and whom it concerns. An
// error says that it could not be found out: the store does not answer, or a key is missing. That there is no manifest is storage.ErrNotExist.
func (f *Folder) Examine(ctx context.Context, checkpoint Checkpoint, progress Progress) (Examination, error) {
	e, err := f.examine(ctx, checkpoint, progress)
	if err != nil {
		return e, fmt.Errorf("examine the checkpoint %s of %s: %w", checkpoint.Name, f.Name, err)
	}
	return e, nil
}

func (f *Folder) examine(ctx context.Context, checkpoint Checkpoint, progress Progress) (Examination, error) {
	tables := f.memory().tables(down)
	defer tables.give()
	if report := progress; report != nil { // what is damaged is read twice
		progress = func(done, total int64) { report(min(done, total), total) }
	}
	r, err := f.reader(ctx, checkpoint, tables, progress)
	if errors.Is(err, storage.ErrCorrupt) {
		return Examination{Damages: []Damage{{Object: f.key(manifestKind, checkpoint.Name), Problem: err.Error()}}}, nil
	}
	if err != nil {
		return Examination{}, err
	}
	found := &damaged{problems: map[uint32]string{}}
	r.damaged = found
	if err := r.read(ctx, 0, len(r.m.Entries)); err != nil {
		return Examination{}, err
	}
	e := Examination{Files: r.summary.Files, Bytes: r.summary.Bytes, Packs: len(r.m.Packs), Damages: r.damages(found)}
	for i := range r.m.frames {
		e.Stored += int64(r.m.frames[i].stored)
	}
	if len(e.Damages) > 0 {
		e.Unread, err = f.addOthers(ctx, checkpoint.Name, r.m, e.Damages)
	}
	return e, err
}

// damaged collects the frames that are not what was written.
type damaged struct {
	mu       sync.Mutex
	problems map[uint32]string // by the number of the frame
}

// narrow finds out which frames of a range are damaged, of which reading has said that something is. Any other error ends it.
func (r *reader) narrow(ctx context.Context, span []use, d *decoder, buffer []byte) error {
	for rest := span; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].frame == rest[0].frame {
			n++
		}
		err := r.readSpan(ctx, rest[:n], d, buffer)
		if err != nil && !errors.Is(err, storage.ErrCorrupt) {
			return err
		}
		if err != nil {
			r.damaged.mu.Lock()
			r.damaged.problems[rest[0].frame] = err.Error()
			r.damaged.mu.Unlock()
		}
		rest = rest[n:]
	}
	return nil
}

// damages puts the frames that are damaged together to ranges.
func (r *reader) damages(found *damaged) []Damage {
	numbers := make([]uint32, 0, len(found.problems))
	for number := range found.problems {
		numbers = append(numbers, number)
	}
	slices.SortFunc(numbers, func(a, b uint32) int {
		x, y := &r.m.frames[a], &r.m.frames[b]
		return cmp.Or(cmp.Compare(x.pack, y.pack), cmp.Compare(x.offset, y.offset), cmp.Compare(a, b))
	})
	var all []Damage
	for _, number := range numbers {
		f := &r.m.frames[number]
		name := r.m.Packs[f.pack].Name
		if n := len(all); n > 0 && all[n-1].Pack == name && all[n-1].Offset+all[n-1].Length == int64(f.offset) {
			all[n-1].Length += int64(f.stored)
			all[n-1].frames = append(all[n-1].frames, number)
			continue
		}
		all = append(all, Damage{
			Object: r.key(packKind, name), Pack: name, Offset: int64(f.offset), Length: int64(f.stored),
			Problem: found.problems[number], frames: []uint32{number},
		})
	}
	r.nameFiles(all)
	return all
}

// nameFiles says which files have bytes in damaged ranges.
func (r *reader) nameFiles(all []Damage) {
	of := map[uint32]int{} // the damage of a frame
	for i := range all {
		for _, number := range all[i].frames {
			of[number] = i
		}
	}
	for i := range r.m.Entries {
		e := &r.m.Entries[i]
		named := map[int]bool{}
		for _, x := range e.extents {
			if damage, is := of[x.frame]; is && x.frame != hole && !named[damage] {
				named[damage] = true
				all[damage].Files = append(all[damage].Files, e.Path)
			}
		}
	}
}

// addOthers says which other checkpoints of the folder need damaged ranges. One after the other their manifests are read. It returns the names of those of
// which that cannot be said.
func (f *Folder) addOthers(ctx context.Context, checkpoint string, m *manifest, all []Damage) (unread []string, err error) {
	names, err := f.list(ctx, manifestKind)
	if err != nil {
		return nil, err
	}
	of := map[string]map[uint32]int{} // the damage of a frame, by pack and offset
	for i := range all {
		for _, number := range all[i].frames {
			if of[all[i].Pack] == nil {
				of[all[i].Pack] = map[uint32]int{}
			}
			of[all[i].Pack][m.frames[number].offset] = i
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		if name != checkpoint {
			sorted = append(sorted, name)
		}
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		other, err := f.manifest(ctx, Checkpoint{Name: name}, nil)
		switch {
		case errors.Is(err, storage.ErrNotExist): // it was deleted meanwhile
			continue
		case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrNoKey):
			unread = append(unread, name)
			continue
		case err != nil:
			return unread, err
		}
		for i := range other.frames {
			frame := &other.frames[i]
			damage, is := of[other.Packs[frame.pack].Name][frame.offset]
			if is && !slices.Contains(all[damage].Others, name) {
				all[damage].Others = append(all[damage].Others, name)
			}
		}
	}
	return unread, nil
}
