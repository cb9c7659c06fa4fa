package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sparseRecord is the record of a tar entry that has only the data of a file with holes, in the parts that the record lists: the size of the file
// in bytes, then for each part where it begins and how long it is, all as decimal numbers with spaces between them. The parts follow each other in the
// entry's content. (The sparse formats of GNU tar cannot be written by archive/tar.)
const sparseRecord = "CHECKPOINT.sparse"

// maxExtents bounds the parts of a file, as a record has at most 1 MiB (archive/tar). Where there are more, small holes are written out.
const maxExtents = 16 << 10

// extent is a part of a file that has data, in bytes.
type extent struct{ offset, length int64 }

func lengthOf(parts []extent) int64 {
	sum := int64(0)
	for _, part := range parts {
		sum += part.length
	}
	return sum
}

// extentsOf returns where a file of that size has data.
func extentsOf(fd int, size int64) ([]extent, error) {
	var parts []extent
	for offset := int64(0); offset < size; {
		start, err := unix.Seek(fd, offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			break
		}
		if err != nil {
			return nil, err
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		if start >= size || end <= start { // it changed meanwhile
			break
		}
		parts = append(parts, extent{start, min(end, size) - start})
		offset = end
	}
	return bounded(parts), nil
}

// bounded makes few parts of many by leaving out holes, the smallest first.
func bounded(parts []extent) []extent {
	for gap := int64(4 << 10); len(parts) > maxExtents; gap *= 2 {
		parts = joined(parts, gap)
	}
	return parts
}

// joined makes one part of those between which there is no more than a gap of that size.
func joined(parts []extent, gap int64) []extent {
	out := parts[:0]
	for _, part := range parts {
		if last := len(out) - 1; last >= 0 && part.offset-(out[last].offset+out[last].length) <= gap {
			out[last].length = part.offset + part.length - out[last].offset
			continue
		}
		out = append(out, part)
	}
	return out
}

func sparseMap(size int64, parts []extent) string {
	var text strings.Builder
	text.WriteString(strconv.FormatInt(size, 10))
	for _, part := range parts {
		fmt.Fprintf(&text, " %d %d", part.offset, part.length)
	}
	return text.String()
}

// parseSparse reads such a record of an entry that has that many bytes.
func parseSparse(text string, has int64) (size int64, parts []extent, err error) {
	words := strings.Split(text, " ")
	if len(words)%2 == 0 || len(words) > 2*maxExtents+1 {
		return 0, nil, fmt.Errorf("%s has %d numbers; it may have an odd number of up to %d", sparseRecord, len(words), 2*maxExtents+1)
	}
	numbers := make([]int64, len(words))
	for i, word := range words {
		if numbers[i], err = strconv.ParseInt(word, 10, 64); err != nil || numbers[i] < 0 {
			return 0, nil, fmt.Errorf("%s has %q; it may have numbers from 0 on", sparseRecord, word)
		}
	}
	size = numbers[0]
	end, sum := int64(0), int64(0)
	for i := 1; i < len(numbers); i += 2 {
		part := extent{numbers[i], numbers[i+1]}
		if part.offset < end || part.length > size-part.offset {
			return 0, nil, fmt.Errorf("%s has a part at %d of %d bytes; it may lie between %d and %d", sparseRecord, part.offset, part.length, end, size)
		}
		end, sum = part.offset+part.length, sum+part.length
		parts = append(parts, part)
	}
	if sum != has {
		return 0, nil, fmt.Errorf("%s has parts of %d bytes; the entry has %d", sparseRecord, sum, has)
	}
	return size, parts, nil
}

// writeParts writes the parts of a file one after the other, and leaves holes where whole blocks are zero.
func writeParts(ctx context.Context, file *os.File, content io.Reader, size int64, parts []extent, block []byte) error {
	end := int64(0)
	for _, part := range parts {
		for done := int64(0); done < part.length; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, err := io.ReadFull(content, block[:min(int64(len(block)), part.length-done)])
			if err != nil {
				return err
			}
			for from := 0; from < n; from += zeroBlock {
				piece := block[from:min(from+zeroBlock, n)]
				if bytes.Equal(piece, zeros[:len(piece)]) {
					continue
				}
				at := part.offset + done + int64(from)
				if _, err := file.WriteAt(piece, at); err != nil {
					return err
				}
				end = at + int64(len(piece))
			}
			done += int64(n)
		}
	}
	if end == size {
		return nil
	}
	return file.Truncate(size)
}

// zeroBlock is the size of the blocks that become holes, in bytes.
const zeroBlock = 64 << 10

var zeros [zeroBlock]byte
