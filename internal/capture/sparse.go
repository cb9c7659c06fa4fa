package capture

import (
	"fmt"
	"strconv"
	"strings"
)

// SparseRecord is the PAX record of a tar entry that has only the data of a file with holes, in the parts that the record lists: the size of the file
// in bytes, then for each part where it begins and how long it is, all as decimal numbers with spaces between them. The parts follow each other in the
// entry's content. The archives of a capture have such entries. (The sparse formats of GNU tar cannot be written by archive/tar.)
const SparseRecord = "CHECKPOINT.sparse"

// MaxExtents bounds the parts of a file, as a record has at most 1 MiB (archive/tar). Where there are more, small holes are written out.
const MaxExtents = 16 << 10

// Extent is a part of a file that has data, in bytes.
type Extent struct{ Offset, Length int64 }

// SparseMap returns the record of a file.
func SparseMap(size int64, parts []Extent) string {
	var text strings.Builder
	text.WriteString(strconv.FormatInt(size, 10))
	for _, part := range parts {
		fmt.Fprintf(&text, " %d %d", part.Offset, part.Length)
	}
	return text.String()
}

// ParseSparse reads such a record of an entry that has that many bytes. The parts ascend, and lie within the size.
func ParseSparse(text string, has int64) (size int64, parts []Extent, err error) {
	words := strings.Split(text, " ")
	if len(words)%2 == 0 || len(words) > 2*MaxExtents+1 {
		return 0, nil, fmt.Errorf("%s has %d numbers; it may have an odd number of up to %d", SparseRecord, len(words), 2*MaxExtents+1)
	}
	numbers := make([]int64, len(words))
	for i, word := range words {
		if numbers[i], err = strconv.ParseInt(word, 10, 64); err != nil || numbers[i] < 0 {
			return 0, nil, fmt.Errorf("%s has %q; it may have numbers from 0 on", SparseRecord, word)
		}
	}
	size = numbers[0]
	end, sum := int64(0), int64(0)
	for i := 1; i < len(numbers); i += 2 {
		part := Extent{numbers[i], numbers[i+1]}
		if part.Offset < end || part.Length > size-part.Offset {
			return 0, nil, fmt.Errorf("%s has a part at %d of %d bytes; it may lie between %d and %d", SparseRecord, part.Offset, part.Length, end, size)
		}
		end, sum = part.Offset+part.Length, sum+part.Length
		parts = append(parts, part)
	}
	if sum != has {
		return 0, nil, fmt.Errorf("%s has parts of %d bytes; the entry has %d", SparseRecord, sum, has)
	}
	return size, parts, nil
}
