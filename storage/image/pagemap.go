package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	"google.golang.org/protobuf/proto"
)

// The beginning of CRIU's images, and what bounds an entry of a map (https://criu.org/Images).
const (
	commonMagic     = 0x54564319
	pagemapMagic    = 0x56084025
	maxPagemapEntry = 4 << 10  // bytes
	maxPagemap      = 64 << 20 // bytes
	inImage         = 1 << 2   // of the flags: the pages are in the image, not in that of a parent
)

// isPagemap tells whether a file is a map of pages, by its name.
func isPagemap(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, "pagemap-") && strings.HasSuffix(base, ".img")
}

// parsePagemap reads CRIU's map of pages: which addresses lie in the file pages-ID.img, one behind the other.
func parsePagemap(data []byte, pageSize int) (id uint32, segments []segment, err error) {
	r := bytes.NewReader(data)
	var magics [2]uint32
	if err := binary.Read(r, binary.LittleEndian, &magics); err != nil {
		return 0, nil, err
	}
	if magics != [2]uint32{commonMagic, pagemapMagic} {
		return 0, nil, fmt.Errorf("it begins with %#x; a map of pages begins with %#x", magics, [2]uint32{commonMagic, pagemapMagic})
	}
	h := &pagemap.PagemapHead{}
	if err := next(r, h); err != nil {
		return 0, nil, err
	}
	for {
		e := &pagemap.PagemapEntry{}
		switch err := next(r, e); {
		case errors.Is(err, io.EOF):
			return h.GetPagesId(), segments, nil
		case err != nil:
			return 0, nil, err
		}
		pages := max(e.GetNrPages(), uint64(e.GetCompatNrPages()))
		if e.Flags == nil && e.GetInParent() || e.Flags != nil && e.GetFlags()&inImage == 0 || pages == 0 {
			continue
		}
		if pages > math.MaxUint32 {
			return 0, nil, fmt.Errorf("%d pages at %#x; there may be %d", pages, e.GetVaddr(), uint32(math.MaxUint32))
		}
		if n := len(segments); n > 0 && segments[n-1].address+uint64(segments[n-1].pages)*uint64(pageSize) == e.GetVaddr() &&
			uint64(segments[n-1].pages)+pages <= math.MaxUint32 {
			segments[n-1].pages += uint32(pages)
			continue
		}
		segments = append(segments, segment{e.GetVaddr(), uint32(pages)})
	}
}

// next reads an entry: its size, and the message. io.EOF is the end in front of one.
func next(r *bytes.Reader, into proto.Message) error {
	var size uint32
	if err := binary.Read(r, binary.LittleEndian, &size); err != nil {
		return err
	}
	if size > maxPagemapEntry || int(size) > r.Len() {
		return fmt.Errorf("an entry has %d bytes; it may have %d, and %d are left", size, maxPagemapEntry, r.Len())
	}
	data := make([]byte, size)
	_, _ = io.ReadFull(r, data)
	return proto.Unmarshal(data, into)
}

// mapsSize is what all maps of pages have together.
func (m *manifest) mapsSize() (total int64) {
	for i := range m.Entries {
		if e := &m.Entries[i]; isPagemap(e.Path) && e.Kind == kindFile && e.Size <= maxPagemap {
			total += e.Size
		}
	}
	return total
}

// mapPages gives the files with pages their addresses. A map that cannot be read is none: its file is then stored as any other.
func mapPages(root *os.Root, m *manifest) error {
	byPath := map[string]*entry{}
	for i := range m.Entries {
		byPath[m.Entries[i].Path] = &m.Entries[i]
	}
	for i := range m.Entries {
		name := m.Entries[i].Path
		if !isPagemap(name) || m.Entries[i].Kind != kindFile || m.Entries[i].Size > maxPagemap {
			continue
		}
		data, err := root.ReadFile(name)
		if err != nil {
			return err
		}
		id, segments, err := parsePagemap(data, m.PageSize)
		if err != nil {
			continue
		}
		pages := byPath[path.Join(path.Dir(name), fmt.Sprintf("pages-%d.img", id))]
		if pages == nil || len(pages.segments) > 0 || len(segments) == 0 {
			continue
		}
		pages.PageMap, pages.segments = name, segments
		if m.checkSegments(pages) != nil {
			pages.PageMap, pages.segments = "", nil
		}
	}
	return nil
}
