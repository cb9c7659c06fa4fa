package image

import (
	"crypto/cipher"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/transparent-checkpoint/operator/storage"
)

// What a writer makes.
const (
	frameContent = 256 << 10 // bytes of a frame, at most
	pays         = 8         // a compressed frame is shorter by this part of it, or it is stored as it is
	giveUpAfter  = 4         // frames in a row that did not pay
	sample       = 8         // of so many frames one is tried then
)

// encoder makes frames. It is used by one goroutine.
type encoder struct {
	zstd    *zstd.Encoder
	scratch []byte
	sealed  []byte
	misses  int // frames in a row that did not pay
	skipped int
}

func newEncoder() (*encoder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(frameContent), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, err
	}
	return &encoder{zstd: z, scratch: make([]byte, 0, frameContent+maxOverhead), sealed: make([]byte, 0, frameContent+maxOverhead)}, nil
}

// encode returns what is stored of a content, and whether it is compressed. The result is content itself, or good until the next call.
func (e *encoder) encode(content []byte, aead cipher.AEAD, place uint64) (stored []byte, packed bool) {
	stored = content
	if e.try() {
		e.scratch = e.zstd.EncodeAll(content, e.scratch[:0])
		if packed = len(e.scratch) <= len(content)-len(content)/pays && len(e.scratch) < len(content); packed {
			stored, e.misses = e.scratch, 0
		} else {
			e.misses++
		}
	}
	if aead != nil {
		e.sealed = aead.Seal(e.sealed[:0], nonce(place, false), stored, nil)
		stored = e.sealed
	}
	return stored, packed
}

// begin begins with other content.
func (e *encoder) begin() { e.misses = 0 }

// try tells whether to compress the next frame: where the last ones did not pay, only a sample is tried.
func (e *encoder) try() bool {
	if e.misses < giveUpAfter {
		return true
	}
	e.skipped++
	return e.skipped%sample == 0
}

// decoder turns frames into their content. It is used by one goroutine.
type decoder struct {
	zstd    *zstd.Decoder
	content []byte
}

func newDecoder() (*decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return &decoder{zstd: z}, nil
}

// decode verifies a frame and returns its content, in the memory of what is stored or good until the next call.
func (d *decoder) decode(f *frame, stored []byte, aead cipher.AEAD) ([]byte, error) {
	if got := blake3.Sum256(stored); got != f.digest {
		return nil, fmt.Errorf("it has the digest %x; it has to be %x: %w", got, f.digest, storage.ErrCorrupt)
	}
	if aead != nil {
		opened, err := aead.Open(stored[:0], nonce(uint64(f.offset), false), stored, nil)
		if err != nil {
			return nil, fmt.Errorf("it cannot be decrypted: %w", storage.ErrCorrupt)
		}
		stored = opened
	}
	if f.packed {
		if cap(d.content) < int(f.length) {
			d.content = make([]byte, 0, f.length)
		}
		content, err := d.zstd.DecodeAll(stored, d.content[:0])
		if err != nil {
			return nil, fmt.Errorf("it cannot be decompressed: %w: %w", storage.ErrCorrupt, err)
		}
		stored = content
	}
	if len(stored) != int(f.length) {
		return nil, fmt.Errorf("it holds %d bytes; it has to hold %d: %w", len(stored), f.length, storage.ErrCorrupt)
	}
	return stored, nil
}
