package image

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// resumed is an upload of second, with first as its base, that goes on from a journal.
type resumed struct {
	from    *Folder
	base    *manifest
	root    *os.Root
	journal []byte
}

func newResumed(f *testing.F) *resumed {
	from, _, journals := uploaded(f, nil)
	base, err := from.manifest(f.Context(), Checkpoint{Name: "first"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	write(f, dir, small(11))
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = root.Close() })
	return &resumed{from, base, root, journals["second"]}
}

// takeOver fails the test unless the manifest that comes of the lines is one that readers accept, and the index one that fits it.
func (r *resumed) takeOver(t *testing.T, lines []journalLine, withBase bool) {
	t.Helper()
	m, err := survey(r.root)
	if err == nil {
		err = mapPages(r.root, m)
	}
	if err != nil {
		t.Fatal(err)
	}
	u := &uploader{Folder: r.from, name: "second", m: m, items: itemsOf(m), there: map[string]int64{}}
	if withBase {
		u.base = &base{manifest: r.base}
	}
	for i := range lines { // as if the store had it all
		if lines[i].Item == nil {
			u.there[lines[i].Pack.Name] = lines[i].Size
		}
	}
	if _, err := u.goOn(lines, withBase, filepath.Join(t.TempDir(), "state")); err != nil {
		t.Fatal(err)
	}
	for _, it := range u.items {
		if !it.done {
			it.add(part{length: uint32(it.length), from: fromHole})
		} else if e := &u.m.Entries[it.entry]; len(e.segments) == 0 && len(it.marks) != len(it.parts) {
			t.Errorf("%q has %d marks of %d parts", e.Path, len(it.marks), len(it.parts))
		}
	}
	u.assemble()
	payload, err := u.m.encode(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseManifest(payload); err != nil {
		t.Errorf("the manifest that comes of it: %v", err)
	}
}

// FuzzJournal: whatever an upload takes over from a journal, the manifest that comes of it is one that readers accept.
func FuzzJournal(f *testing.F) {
	r := newResumed(f)
	var texts []byte // without their checksums, which would end nearly every try
	for line := range bytes.Lines(r.journal) {
		texts = append(texts, line[sumDigits+1:]...)
	}
	f.Add(texts, true)
	f.Add(texts, false)
	f.Add(texts[:len(texts)/2], true)
	f.Fuzz(func(t *testing.T, texts []byte, withBase bool) {
		var data []byte
		for text := range bytes.Lines(texts) {
			data = append(append(data, sumOf(text)...), text...)
		}
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, lines := readJournal(path, testFolder, "second")
		r.takeOver(t, lines, withBase)
	})
}

// FuzzJournalNumbers: the same, of a journal in which a few numbers are others.
func FuzzJournalNumbers(f *testing.F) {
	r := newResumed(f)
	path := filepath.Join(f.TempDir(), "journal")
	if err := os.WriteFile(path, r.journal, 0o600); err != nil {
		f.Fatal(err)
	}
	_, lines := readJournal(path, testFolder, "second")
	if len(lines) < 4 || len(lines[0].Frames) < 2 || lines[1].Item == nil || lines[2].Item == nil {
		f.Fatalf("the journal has the lines %+v", lines)
	}
	for of := range uint8(5) {
		for field := range uint8(4) {
			for _, value := range []uint32{0, 1, 3, 259, hole, 1 << 21} {
				f.Add(of, uint8(0), field, value, true)
				f.Add(of, uint8(1), field, value, false)
			}
		}
	}
	f.Fuzz(func(t *testing.T, of, which, field uint8, value uint32, withBase bool) {
		_, lines := readJournal(path, testFolder, "second")
		line, items := &lines[0], []*journalItem{}
		for i := range lines {
			if lines[i].Item != nil {
				items = append(items, lines[i].Item)
			}
		}
		switch n := int(which); of % 5 {
		case 0:
			line.Frames[n%len(line.Frames)][field%3] = value
		case 1:
			line.Size = int64(value)
		case 2:
			it := items[n%len(items)]
			it.Marks = it.Marks[:min(int(value), len(it.Marks))]
		default: // of one part, at the cost of another
			parts := items[n%len(items)].Parts
			p, other := &parts[int(value)%len(parts)], &parts[len(parts)-1]
			sum := p[0] + other[0]
			if p[field%4] = value; field%4 == 0 && p != other {
				other[0] = sum - value
			}
		}
		r.takeOver(t, lines, withBase)
	})
}

// TestAWrongLineEndsAJournal, as what was written before a power cut may come back otherwise.
func TestAWrongLineEndsAJournal(t *testing.T) {
	t.Parallel()
	_, _, journals := uploaded(t, nil)
	whole, path := journals["second"], filepath.Join(t.TempDir(), "journal")
	ends := []int{0} // of the lines
	for line := range bytes.Lines(whole) {
		ends = append(ends, ends[len(ends)-1]+len(line))
	}
	for at := 0; at < len(whole); at += 1 + len(whole)/200 {
		before := 0
		for before+1 < len(ends) && ends[before+1] <= at {
			before++
		}
		for what, damage := range map[string]func([]byte) []byte{
			"a bit":    func(data []byte) []byte { data[at] ^= 1; return data },
			"no disk":  func(data []byte) []byte { clear(data[at:]); return data },
			"cut off":  func(data []byte) []byte { return data[:at] },
			"two gone": func(data []byte) []byte { return append(data[:at], data[min(at+2, len(data)):]...) },
		} {
			if err := os.WriteFile(path, damage(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, lines := readJournal(path, testFolder, "second"); len(lines) != max(before-1, 0) {
				t.Errorf("%s at byte %d, behind %d lines: %d are read", what, at, before, len(lines))
			}
		}
	}
}
