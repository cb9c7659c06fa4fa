package image

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"sort"
	"strconv"
	"strings"

	"github.com/transparent-checkpoint/operator/storage"
)

// What a manifest may have. The memory that reading one takes is bounded by its own size, since no number in it says what to allocate.
const (
	maxManifestSize = 256 << 20 // bytes
	maxHeadText     = 16 << 20  // bytes of JSON, which take several times that in memory: some 100,000 files, of which a state has some hundred
	maxFrame        = 1 << 20   // bytes, as it comes out
	maxOverhead     = 1 << 10   // bytes that a stored frame may have more than its content
	maxFileSize     = 1 << 44   // bytes
	maxTotalSize    = 1 << 46   // bytes
	minPageSize     = 4 << 10
	maxPageSize     = 64 << 10

	kindFile        = "file"
	kindDirectory   = "directory"
	digestAlgorithm = "sha256:"
	digestDigits    = 2 * sha256.Size
	idDigits        = 2 * idSize
	saltDigits      = 2 * saltSize
	modeDigits      = 4

	extentSize  = 12
	segmentItem = 16
	frameSize   = 48
	hole        = math.MaxUint32 // the frame of an extent that is a hole
	compressed  = 1 << 31        // in the length of a frame's content
)

// manifest is what a checkpoint consists of, and where each byte of it is.
type manifest struct {
	head
	frames []frame
}

// head is the JSON at the beginning.
type head struct {
	PageSize int     `json:"pageSize"` // bytes
	Entries  []entry `json:"entries"`
	Packs    []pack  `json:"packs"`
	Frames   int     `json:"frames"`
	Index    string  `json:"index"` // "sha256:" and hexadecimal digits, or empty
}

// entry is a file or a directory. A directory comes before what is in it.
type entry struct {
	Path     string            `json:"path"` // with slashes, relative to the top
	Kind     string            `json:"kind"`
	Mode     string            `json:"mode"` // four octal digits
	UID      int               `json:"uid"`
	GID      int               `json:"gid"`
	Modified int64             `json:"modified"` // nanoseconds since 1970
	XAttrs   map[string][]byte `json:"xattrs,omitempty"`
	Size     int64             `json:"size,omitempty"` // bytes
	Extents  int               `json:"extents,omitempty"`
	PageMap  string            `json:"pagemap,omitempty"`
	Segments int               `json:"segments,omitempty"`

	extents  []extent
	segments []segment
	growing  bool // it is sent ahead
}

// extent is a part of a file: of a frame, or a hole.
type extent struct {
	length uint32 // bytes
	frame  uint32 // number in the manifest's table, or hole
	offset uint32 // bytes, in the frame as it comes out
}

// segment is a range of addresses whose pages lie in a file.
type segment struct {
	address uint64
	pages   uint32
}

// pack is an object that consists of frames.
type pack struct {
	Name string `json:"name"` // below the kind packKind
	Key  string `json:"key"`  // hexadecimal digits; empty if it is not encrypted
	Salt string `json:"salt"`
}

// frame is a piece of a pack.
type frame struct {
	pack   uint32 // number in the manifest's table
	offset uint32 // bytes, in the pack
	stored uint32 // bytes in the pack
	length uint32 // bytes as it comes out
	packed bool   // compressed
	digest [32]byte
}

// What no entry and no pack can do with less: bytes of JSON, so that a text takes a few times its size in memory, however it was made.
const (
	minEntryText = len(`{"path":"a","kind":"file","mode":"0000"}`)
	minPackText  = len(`{"name":"a"}`)
)

// UnmarshalJSON ends with the first entry that cannot be one.
func (e *entry) UnmarshalJSON(text []byte) error {
	type plain entry
	return unmarshal(text, minEntryText, (*plain)(e))
}

// UnmarshalJSON does the same.
func (p *pack) UnmarshalJSON(text []byte) error {
	type plain pack
	return unmarshal(text, minPackText, (*plain)(p))
}

func unmarshal(text []byte, least int, into any) error {
	if len(text) < least {
		return fmt.Errorf("%q has less than %d bytes", text, least)
	}
	return json.Unmarshal(text, into)
}

// The three bits beside the permissions.
var special = map[fs.FileMode]uint64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000}

func encodeMode(mode fs.FileMode) string {
	bits := uint64(mode.Perm())
	for flag, bit := range special {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return fmt.Sprintf("%0*o", modeDigits, bits)
}

// mode returns that of a checked entry.
func (e *entry) mode() fs.FileMode {
	bits, _ := strconv.ParseUint(e.Mode, 8, 12) // check has done the same
	mode := fs.FileMode(bits) & fs.ModePerm
	for flag, bit := range special {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return digestAlgorithm + hex.EncodeToString(sum[:])
}

// encode returns the payload, behind so many bytes of room.
func (m *manifest) encode(room int) ([]byte, error) {
	m.Frames = len(m.frames)
	extents, segments := 0, 0
	for i := range m.Entries {
		e := &m.Entries[i]
		e.Extents, e.Segments = len(e.extents), len(e.segments)
		extents, segments = extents+e.Extents, segments+e.Segments
	}
	text, err := json.Marshal(&m.head)
	if err != nil {
		return nil, err
	}
	if len(text) > maxHeadText {
		return nil, fmt.Errorf("manifest of %d files has %d bytes of text; it may have %d: %w", len(m.Entries), len(text), maxHeadText, storage.ErrInvalid)
	}
	size := 4 + len(text) + extents*extentSize + segments*segmentItem + len(m.frames)*frameSize
	if size > maxManifestSize-headSize {
		return nil, fmt.Errorf("manifest has %d bytes; it may have %d: %w", size, maxManifestSize, storage.ErrInvalid)
	}
	le := binary.LittleEndian
	data := append(le.AppendUint32(make([]byte, room, room+size), uint32(len(text))), text...)
	for i := range m.Entries {
		for _, x := range m.Entries[i].extents {
			data = le.AppendUint32(le.AppendUint32(le.AppendUint32(data, x.length), x.frame), x.offset)
		}
	}
	for i := range m.Entries {
		for _, s := range m.Entries[i].segments {
			data = le.AppendUint32(le.AppendUint32(le.AppendUint64(data, s.address), s.pages), 0)
		}
	}
	for i := range m.frames {
		f := &m.frames[i]
		length := f.length
		if f.packed {
			length |= compressed
		}
		data = le.AppendUint32(le.AppendUint32(le.AppendUint32(le.AppendUint32(data, f.pack), f.offset), f.stored), length)
		data = append(data, f.digest[:]...)
	}
	return data, nil
}

// parseManifest reads a payload of which nothing is known. Whatever is wrong with it is storage.ErrCorrupt.
func parseManifest(data []byte) (*manifest, error) {
	m := &manifest{}
	if err := m.parse(data); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	return m, nil
}

func (m *manifest) parse(data []byte) error {
	le := binary.LittleEndian
	if len(data) < 4 || int64(len(data))-4 < int64(le.Uint32(data)) {
		return fmt.Errorf("it ends in its head, after %d bytes", len(data))
	}
	text, rest := data[4:4+le.Uint32(data)], data[4+le.Uint32(data):]
	if len(text) > maxHeadText {
		return fmt.Errorf("it has %d bytes of text; it may have %d", len(text), maxHeadText)
	}
	if err := json.Unmarshal(text, &m.head); err != nil {
		return err
	}
	if err := m.checkHead(len(rest)); err != nil {
		return err
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		e.extents = make([]extent, e.Extents)
		for j := range e.extents {
			e.extents[j] = extent{le.Uint32(rest), le.Uint32(rest[4:]), le.Uint32(rest[8:])}
			rest = rest[extentSize:]
		}
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		e.segments = make([]segment, e.Segments)
		for j := range e.segments {
			e.segments[j] = segment{le.Uint64(rest), le.Uint32(rest[8:])}
			rest = rest[segmentItem:]
		}
	}
	m.frames = make([]frame, m.Frames)
	for i := range m.frames {
		length := le.Uint32(rest[12:])
		m.frames[i] = frame{le.Uint32(rest), le.Uint32(rest[4:]), le.Uint32(rest[8:]), length &^ compressed, length&compressed != 0, [32]byte(rest[16:])}
		rest = rest[frameSize:]
	}
	return m.checkTables()
}

// checkHead checks the JSON, behind which so many bytes of tables follow.
func (m *manifest) checkHead(tables int) error {
	if m.PageSize < minPageSize || m.PageSize > maxPageSize || m.PageSize&(m.PageSize-1) != 0 {
		return fmt.Errorf("pageSize is %d bytes; it may be a power of two from %d to %d", m.PageSize, minPageSize, maxPageSize)
	}
	left, total := int64(tables), int64(0)
	kinds := map[string]string{".": kindDirectory} // by path
	for i := range m.Entries {
		e := &m.Entries[i]
		if err := e.checkPath(kinds); err != nil {
			return err
		}
		if err := e.checkFields(); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
		if total += e.Size; total > maxTotalSize {
			return fmt.Errorf("the files have more than %d bytes", int64(maxTotalSize))
		}
		left -= int64(e.Extents)*extentSize + int64(e.Segments)*segmentItem
		if left < 0 {
			break
		}
	}
	if m.Frames < 0 || m.Frames >= hole || left != int64(m.Frames)*frameSize {
		return fmt.Errorf("the tables have %d bytes, which is not what the head says", tables)
	}
	for i := range m.Packs {
		if err := m.Packs[i].check(); err != nil {
			return err
		}
	}
	if m.Index != "" && !isDigest(m.Index) {
		return fmt.Errorf("index is %q; it may be empty, or %q and %d hexadecimal digits", m.Index, digestAlgorithm, digestDigits)
	}
	return nil
}

func (e *entry) checkPath(kinds map[string]string) error {
	if err := storage.CheckKey("path", e.Path); err != nil { // so it is local, and means the same everywhere
		return err
	}
	if isNote(e.Path) {
		return fmt.Errorf("%q is a name of notes that are not uploaded", e.Path)
	}
	if kinds[e.Path] != "" {
		return fmt.Errorf("%q comes twice", e.Path)
	}
	if parent := path.Dir(e.Path); kinds[parent] != kindDirectory {
		return fmt.Errorf("%q comes without its directory before it", e.Path)
	}
	kinds[e.Path] = e.Kind
	return nil
}

func (e *entry) checkFields() error {
	if _, err := strconv.ParseUint(e.Mode, 8, 12); err != nil || len(e.Mode) != modeDigits {
		return fmt.Errorf("mode is %q; it may be 0000 to 7777", e.Mode)
	}
	if e.UID < 0 || e.UID > math.MaxUint32 || e.GID < 0 || e.GID > math.MaxUint32 {
		return fmt.Errorf("owner is %d:%d; both may be 0 to %d", e.UID, e.GID, uint32(math.MaxUint32))
	}
	switch {
	case e.Kind == kindDirectory && e.Size == 0 && e.Extents == 0 && e.Segments == 0:
		return nil
	case e.Kind == kindDirectory:
		return errors.New("it is a directory; it may have neither size nor extents nor segments")
	case e.Kind != kindFile:
		return fmt.Errorf("kind is %q; it may be %q or %q", e.Kind, kindFile, kindDirectory)
	case e.Size < 0 || e.Size > maxFileSize:
		return fmt.Errorf("size is %d bytes; it may be 0 to %d", e.Size, int64(maxFileSize))
	case e.Extents < 0 || e.Segments < 0 || e.Extents > hole || e.Segments > hole:
		return fmt.Errorf("it has %d extents and %d segments; both may be 0 to %d", e.Extents, e.Segments, uint32(hole))
	}
	return nil
}

func (p *pack) check() error {
	if err := storage.CheckKey("pack", p.Name); err != nil {
		return err
	}
	if plain := p.Key == "" && p.Salt == ""; !plain && (!isHex(p.Key, idDigits) || !isHex(p.Salt, saltDigits)) {
		return fmt.Errorf("key and salt of pack %q are %q and %q; they may be empty, or have %d and %d hexadecimal digits",
			p.Name, p.Key, p.Salt, idDigits, saltDigits)
	}
	return nil
}

// checkTables checks what stands behind the head.
func (m *manifest) checkTables() error {
	for i := range m.frames {
		f := &m.frames[i]
		if int64(f.pack) >= int64(len(m.Packs)) || !f.isPossible() {
			return fmt.Errorf("frame %d is in pack %d of %d, of %d bytes stored in %d; it may have 1 to %d, stored in 1 to %d more",
				i, f.pack, len(m.Packs), f.length, f.stored, maxFrame, maxOverhead)
		}
	}
	for i := range m.Entries {
		if err := m.checkEntry(&m.Entries[i]); err != nil {
			return fmt.Errorf("%q: %w", m.Entries[i].Path, err)
		}
	}
	return nil
}

// isPossible tells whether a frame has a size that frames may have.
func (f *frame) isPossible() bool {
	return f.length >= 1 && f.length <= maxFrame && f.stored >= 1 && f.stored <= f.length+maxOverhead
}

func (m *manifest) checkEntry(e *entry) error {
	sum := int64(0)
	for i, x := range e.extents {
		sum += int64(x.length)
		switch {
		case x.length == 0:
			return fmt.Errorf("extent %d has no bytes", i)
		case x.frame == hole:
		case int64(x.frame) >= int64(len(m.frames)):
			return fmt.Errorf("extent %d is in frame %d of %d", i, x.frame, len(m.frames))
		case uint64(x.offset)+uint64(x.length) > uint64(m.frames[x.frame].length):
			return fmt.Errorf("extent %d ends at byte %d of a frame of %d", i, uint64(x.offset)+uint64(x.length), m.frames[x.frame].length)
		}
	}
	if sum != e.Size {
		return fmt.Errorf("its extents have %d bytes; it has %d", sum, e.Size)
	}
	return m.checkSegments(e)
}

func (m *manifest) checkSegments(e *entry) error {
	pages, end := int64(0), uint64(0)
	for i, s := range e.segments {
		size := uint64(s.pages) * uint64(m.PageSize)
		if s.pages == 0 || s.address < end || s.address%uint64(m.PageSize) != 0 || s.address+size < s.address {
			return fmt.Errorf("segment %d has %d pages at %#x; it may begin at a page from %#x on", i, s.pages, s.address, end)
		}
		pages, end = pages+int64(s.pages), s.address+size
	}
	if len(e.segments) > 0 && pages*int64(m.PageSize) != e.Size {
		return fmt.Errorf("its segments have %d pages of %d bytes; it has %d bytes", pages, m.PageSize, e.Size)
	}
	return nil
}

// stored returns the bytes that the frames take which the manifest names, and how many bytes come out of them.
func (m *manifest) stored() (stored, content int64) {
	for i := range m.frames {
		stored, content = stored+int64(m.frames[i].stored), content+int64(m.frames[i].length)
	}
	return stored, content
}

// stride is of how many extents the start of one is kept.
const stride = 64

// starts returns where every stride-th extent of an entry begins in the file.
func (e *entry) starts() []int64 {
	starts, at := make([]int64, 0, len(e.extents)/stride+1), int64(0)
	for i, x := range e.extents {
		if i%stride == 0 {
			starts = append(starts, at)
		}
		at += int64(x.length)
	}
	return starts
}

// find returns the number of the extent that has a byte of the file, and where that begins, given the starts.
func (e *entry) find(starts []int64, offset int64) (number int, start int64) {
	n := sort.Search(len(starts), func(i int) bool { return starts[i] > offset }) - 1
	number, start = n*stride, starts[n]
	for start+int64(e.extents[number].length) <= offset {
		start += int64(e.extents[number].length)
		number++
	}
	return number, start
}

// page returns the number of the page, in the file, that has an address.
func (e *entry) page(address uint64, pageSize int) (int64, bool) {
	first := int64(0)
	for _, s := range e.segments {
		if address >= s.address && address < s.address+uint64(s.pages)*uint64(pageSize) {
			return first + int64((address-s.address)/uint64(pageSize)), true
		}
		first += int64(s.pages)
	}
	return 0, false
}

// notes is how the names begin of what users of this package keep for themselves at the top of a directory. Uploads leave it out, and what is
// fetched must not pass for it.
const notes = "agent"

func isNote(name string) bool {
	return !strings.Contains(name, "/") && strings.HasPrefix(name, notes)
}

func isHex(text string, digits int) bool {
	return len(text) == digits && strings.Trim(text, "0123456789abcdef") == ""
}

func isDigest(text string) bool {
	digits, ok := strings.CutPrefix(text, digestAlgorithm)
	return ok && isHex(digits, digestDigits)
}
