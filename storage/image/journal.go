package image

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"
)

// journal is a file in which an upload notes what it has sent, so that after a kill the next one goes on from there. A line is a checksum and JSON: a pack,
// or an item that is done with it. One that was cut off or is wrong, as nothing is synced, and all behind it count as not written. The directory must be
// the same one: its files do not change.
type journal struct {
	mu   sync.Mutex
	file *os.File // nil when there is none, or none any more
	lost func(error)
}

// journalHead is the first line.
type journalHead struct {
	Version int        `json:"version"`
	Folder  string     `json:"folder"`
	Name    string     `json:"name"`
	Base    Checkpoint `json:"base"`
	MarkKey []byte     `json:"markKey"`
}

// journalLine is one of the others: a pack, an item of a pack that has a line before it, or the end.
type journalLine struct {
	Pack   pack          `json:"pack"`
	Size   int64         `json:"size,omitempty"`
	Frames []journalPart `json:"frames,omitempty"`
	Item   *journalItem  `json:"item,omitempty"`
	Digest string        `json:"manifestDigest,omitempty"` // of the end
	Sum    []byte        `json:"digests,omitempty"`        // of the frames, one behind the other
}

type journalPart [4]uint32

type journalItem struct {
	Path   string        `json:"path"`
	Offset int64         `json:"offset"`
	Length int64         `json:"length"`
	Shared int64         `json:"shared"`
	Parts  []journalPart `json:"parts"`
	Marks  []byte        `json:"marks,omitempty"`
	Ahead  int           `json:"ahead,omitempty"` // its marks are in the file of what was sent ahead, at this place from 1 on
}

// readJournal returns what an earlier upload has noted; nothing, if it is none of this one.
func readJournal(path, folder, name string) (head journalHead, lines []journalLine) {
	file, err := os.Open(path)
	if err != nil {
		return journalHead{}, nil
	}
	defer file.Close()
	in := bufio.NewReader(file)
	if !readLine(in, &head) || head.Version != formatVersion || head.Folder != folder || head.Name != name {
		return journalHead{}, nil
	}
	for {
		var line journalLine
		if !readLine(in, &line) {
			return head, lines
		}
		lines = append(lines, line)
	}
}

// sumDigits is how long the checksum of a line is: CRC-32C in hexadecimal digits, and a space behind it.
const sumDigits = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readLine reads a line, if there is one that is whole.
func readLine(in *bufio.Reader, into any) bool {
	line, err := in.ReadBytes('\n')
	if err != nil || len(line) <= sumDigits {
		return false
	}
	text := line[sumDigits+1:]
	return string(line[:sumDigits+1]) == sumOf(text) && json.Unmarshal(text, into) == nil
}

func sumOf(text []byte) string {
	return fmt.Sprintf("%0*x ", sumDigits, crc32.Checksum(text, castagnoli))
}

// writeLine writes one, at once.
func writeLine(w io.Writer, line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	_, err = w.Write(append([]byte(sumOf(text)), text...))
	return err
}

// beginJournal writes a journal anew, with what is kept of the old one. Without a path there is none, nor where the disk has trouble: then lost is told.
func beginJournal(path string, head journalHead, lines []journalLine, lost func(error)) (*journal, error) {
	if path == "" {
		return &journal{}, nil
	}
	j, err := writeJournal(path, head, lines)
	if IsDiskTrouble(err) {
		lost(errors.Join(err, os.RemoveAll(path+".new")))
		return &journal{}, nil
	}
	if err != nil {
		return nil, err
	}
	j.lost = lost
	return j, nil
}

func writeJournal(path string, head journalHead, lines []journalLine) (*journal, error) {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriter(file)
	err = writeLine(out, head)
	for i := range lines {
		err = errors.Join(err, writeLine(out, &lines[i]))
	}
	if err = errors.Join(err, out.Flush(), os.Rename(path+".new", path)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &journal{file: file}, nil
}

func (j *journal) append(line *journalLine) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := writeLine(j.file, line)
	if IsDiskTrouble(err) { // what stands in it up to here still counts
		j.lost(errors.Join(err, j.file.Close()))
		j.file, err = nil, nil
	}
	return err
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	if IsDiskTrouble(err) {
		return nil
	}
	return err
}

// packed notes a pack, and the items that are done with it.
func (j *journal) packed(made *madePack, items []*item, m *manifest) error {
	line := &journalLine{Pack: made.pack, Size: made.size}
	for i := range made.frames {
		f := &made.frames[i]
		length := f.length
		if f.packed {
			length |= compressed
		}
		line.Frames = append(line.Frames, journalPart{f.offset, f.stored, length})
		line.Sum = append(line.Sum, f.digest[:]...)
	}
	if err := j.append(line); err != nil {
		return err
	}
	for _, it := range items {
		noted := &journalItem{Path: m.Entries[it.entry].Path, Offset: it.offset, Length: it.length, Shared: it.shared}
		for _, p := range it.parts {
			noted.Parts = append(noted.Parts, journalPart{p.length, p.frame, p.offset, uint32(p.from)})
		}
		if m.Entries[it.entry].growing {
			noted.Ahead = it.entry + 1
		}
		for _, k := range it.marks {
			noted.Marks = append(noted.Marks, k[:]...)
		}
		if err := j.append(&journalLine{Pack: made.pack, Item: noted}); err != nil {
			return err
		}
	}
	return nil
}

// made returns the pack of a line.
func (l *journalLine) made() (*madePack, error) {
	if len(l.Sum) != len(l.Frames)*len(frame{}.digest) {
		return nil, fmt.Errorf("%d bytes of digests for %d frames", len(l.Sum), len(l.Frames))
	}
	if err := l.Pack.check(); err != nil {
		return nil, err
	}
	made := &madePack{pack: l.Pack, size: l.Size}
	for i, n := range l.Frames {
		f := frame{offset: n[0], stored: n[1], length: n[2] &^ compressed, packed: n[2]&compressed != 0, digest: [32]byte(l.Sum[i*32:])}
		if end := int64(f.offset) + int64(f.stored); !f.isPossible() || end > l.Size {
			return nil, fmt.Errorf("frame %d of %d bytes, stored in %d, ends at byte %d of %d", i, f.length, f.stored, end, l.Size)
		}
		made.frames = append(made.frames, f)
	}
	return made, nil
}

// apply takes over what a line says of an item. The base is the one of that time; nil, if that is none any more.
func (n *journalItem) apply(it *item, made *madePack, base *manifest, isMemory bool) bool {
	it.parts, it.marks = nil, nil
	if n.Ahead < 0 || n.Ahead > maxAhead {
		return false
	}
	total := int64(0)
	for _, p := range n.Parts {
		var frames []frame
		switch {
		case p[0] == 0 || p[3] > uint32(fromBase) || p[3] == uint32(fromBase) && base == nil:
			return false
		case p[3] == uint32(fromPack):
			frames = made.frames
		case p[3] == uint32(fromBase):
			frames = base.frames
		}
		if p[3] != uint32(fromHole) && (int64(p[1]) >= int64(len(frames)) || uint64(p[2])+uint64(p[0]) > uint64(frames[p[1]].length)) {
			return false
		}
		it.parts = append(it.parts, part{p[0], p[1], p[2], origin(p[3])})
		total += int64(p[0])
	}
	for i := 0; i+markSize <= len(n.Marks); i += markSize {
		it.marks = append(it.marks, mark(n.Marks[i:i+markSize]))
	}
	it.pack, it.shared = made, n.Shared
	return total == it.length && (isMemory || len(it.marks) == len(it.parts)) // a mark for the wrong part would lead later uploads astray
}

// removeState removes what an upload has left on the disk.
func removeState(path string) error {
	if path == "" {
		return nil
	}
	var errs []error
	for _, suffix := range []string{journalSuffix, journalSuffix + ".new", indexSuffix, aheadSuffix} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
