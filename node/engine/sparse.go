package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// extent is a part of a file that has data.
type extent = capture.Extent

func lengthOf(parts []extent) int64 {
	sum := int64(0)
	for _, part := range parts {
		sum += part.Length
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
		parts = append(parts, extent{Offset: start, Length: min(end, size) - start})
		offset = end
	}
	return bounded(parts), nil
}

// bounded makes few parts of many by leaving out holes, the smallest first.
func bounded(parts []extent) []extent {
	for gap := int64(4 << 10); len(parts) > capture.MaxExtents; gap *= 2 {
		parts = joined(parts, gap)
	}
	return parts
}

// joined makes one part of those between which there is no more than a gap of that size.
func joined(parts []extent, gap int64) []extent {
	out := parts[:0]
	for _, part := range parts {
		if last := len(out) - 1; last >= 0 && part.Offset-(out[last].Offset+out[last].Length) <= gap {
			out[last].Length = part.Offset + part.Length - out[last].Offset
			continue
		}
		out = append(out, part)
	}
	return out
}

// writeParts writes the parts of a file one after the other, and leaves holes where whole blocks are zero.
func writeParts(ctx context.Context, file *os.File, content io.Reader, size int64, parts []extent, block []byte) error {
	end := int64(0)
	for _, part := range parts {
		for done := int64(0); done < part.Length; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, err := io.ReadFull(content, block[:min(int64(len(block)), part.Length-done)])
			if err != nil {
				return err
			}
			for from := 0; from < n; from += zeroBlock {
				piece := block[from:min(from+zeroBlock, n)]
				if bytes.Equal(piece, zeros[:len(piece)]) {
					continue
				}
				at := part.Offset + done + int64(from)
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
