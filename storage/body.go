package storage

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// SizeUnknown is the Size of a Body that tells its size only by its end.
const SizeUnknown int64 = -1

// Body is what a put sends. It is a recipe for a reader rather than a reader, so that a put that failed half-way can be repeated from the
// first byte: by storage/retry, and by an adapter whose server refused the first form of a request.
type Body struct {
	// Size in bytes, or SizeUnknown. A body that turns out to be shorter or longer fails the put with ErrInvalid.
	Size int64
	// Max is the most bytes that a body of unknown size can have; 0 means not known. Adapters choose their buffers by it.
	Max int64
	// Open returns a new reader at the first byte each time it is called. Whoever calls it closes the reader.
	Open func() (io.ReadCloser, error)
	// CRC32C is the checksum of the content by Castagnoli's polynomial; nil if it is not known. An adapter may have its server compare it.
	CRC32C *uint32

	once bool
}

// Bytes is the body that consists of data, which must not be changed while it is put.
func Bytes(data []byte) Body {
	sum := crc32.Checksum(data, castagnoli)
	return Body{Size: int64(len(data)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, CRC32C: &sum}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Section is the body that consists of size bytes of r from offset on, both in bytes.
func Section(r io.ReaderAt, offset, size int64) Body {
	return Body{Size: size, Open: func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(r, offset, size)), nil }}
}

// Once is the body that consists of what r still has: size bytes, or SizeUnknown. It can be read only once, so that a put of it is never
// repeated.
func Once(r io.Reader, size int64) Body {
	used := false
	return Body{Size: size, once: true, Open: func() (io.ReadCloser, error) {
		if used {
			return nil, fmt.Errorf("read the body again: it can be read only once: %w", ErrInvalid)
		}
		used = true
		return io.NopCloser(r), nil
	}}
}

// Repeatable says whether the body can be opened more than once.
func (b Body) Repeatable() bool { return !b.once }

// Reader opens the body for an adapter. The reader keeps it to its Size and Max.
func (b Body) Reader() (*BodyReader, error) {
	if b.Size < SizeUnknown || b.Max < 0 {
		return nil, fmt.Errorf("size of the body is %d bytes, at most %d; it may be %d (unknown) or more, at most 0 (unknown) or more: %w",
			b.Size, b.Max, SizeUnknown, ErrInvalid)
	}
	if b.Open == nil {
		return nil, fmt.Errorf("body has no Open: %w", ErrInvalid)
	}
	source, err := b.Open()
	if err != nil {
		return nil, fmt.Errorf("open the body: %w", err)
	}
	limit := b.Size
	if limit == SizeUnknown {
		limit = b.Max
	}
	return &BodyReader{source: source, size: b.Size, limit: limit, bounded: b.Size != SizeUnknown || b.Max > 0}, nil
}

// BodyReader reads a body and holds it to the size that it was said to have.
type BodyReader struct {
	source  io.ReadCloser
	size    int64 // or SizeUnknown
	limit   int64 // of bytes, if bounded
	bounded bool
	read    int64
	err     error
}

// Read reads like io.Reader. It withholds the last bytes until it knows that no more follow, lest an adapter stores a body that is too long.
func (r *BodyReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.bounded && int64(len(p)) > r.limit-r.read {
		p = p[:r.limit-r.read]
	}
	n, err := 0, error(nil)
	if len(p) > 0 {
		n, err = r.source.Read(p)
	}
	r.read += int64(n)
	if err == nil && r.bounded && r.read == r.limit {
		err = r.probe()
	}
	r.err = r.judge(err)
	if r.err != nil && !errors.Is(r.err, io.EOF) {
		return 0, r.err
	}
	return n, r.err
}

// probe returns io.EOF if the source is at its end.
func (r *BodyReader) probe() error {
	var one [1]byte
	switch n, err := io.ReadFull(r.source, one[:]); {
	case n > 0:
		return fmt.Errorf("body goes on after %d bytes; it may have no more: %w", r.limit, ErrInvalid)
	default:
		return err
	}
}

// judge turns an early end into an error.
func (r *BodyReader) judge(err error) error {
	if errors.Is(err, io.EOF) {
		if r.size != SizeUnknown && r.read < r.size {
			return fmt.Errorf("body ends after %d bytes; it has to have %d: %w", r.read, r.size, ErrInvalid)
		}
		return io.EOF
	}
	return err
}

// Close closes what Open returned.
func (r *BodyReader) Close() error { return r.source.Close() }

// Err returns why the body could not be read, and nil as long as it could. Adapters ask it to tell a failing source from a failing server.
func (r *BodyReader) Err() error {
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}
