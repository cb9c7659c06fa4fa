package image

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/transparent-checkpoint/operator/storage"
)

// Keys are what checkpoints are encrypted with: 32 bytes each, the newest first. The first one encrypts, all decrypt. They do not print.
type Keys [][]byte

// String hides the keys.
func (k Keys) String() string { return fmt.Sprintf("%d keys, hidden", len(k)) }

// GoString hides the keys.
func (k Keys) GoString() string { return k.String() }

const (
	keySize  = 32
	idSize   = 16
	saltSize = 32
	tagSize  = 16

	purposeID   = "transparent-checkpoint key id"
	purposePack = "transparent-checkpoint pack"
)

func (k Keys) check() error {
	for i, key := range k {
		if len(key) != keySize {
			return fmt.Errorf("key %d has %d bytes; it may have %d: %w", i+1, len(key), keySize, storage.ErrInvalid)
		}
	}
	return nil
}

func derive(key, salt []byte, purpose string, size int) []byte {
	derived, err := hkdf.Key(sha256.New, key, salt, purpose, size)
	if err != nil {
		panic(err) // of sizes that nobody asks for
	}
	return derived
}

func idOf(key []byte) []byte { return derive(key, nil, purposeID, idSize) }

// current returns the id of the key that encrypts, nil if nothing is encrypted.
func (k Keys) current() []byte {
	if len(k) == 0 {
		return nil
	}
	return idOf(k[0])
}

// aead returns the cipher of one object.
func (k Keys) aead(id, salt []byte, purpose string) (cipher.AEAD, error) {
	for _, key := range k {
		if !bytes.Equal(idOf(key), id) {
			continue
		}
		block, err := aes.NewCipher(derive(key, salt, purpose, keySize))
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	}
	return nil, fmt.Errorf("it is encrypted with the key %s, which is not among the %d known ones: %w", hex.EncodeToString(id), len(k), storage.ErrNoKey)
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // it never fails
	return salt
}

// nonce returns that of a place in an object: the offset of a frame, the number of a segment.
func nonce(place uint64, last bool) []byte {
	n := binary.LittleEndian.AppendUint64(make([]byte, 0, 12), place)
	if last {
		return append(n, 0, 0, 0, 1)
	}
	return append(n, 0, 0, 0, 0)
}

// The head of manifests and indexes.
const (
	manifestMagic = "TCKPTMAN"
	indexMagic    = "TCKPTIDX"
	formatVersion = 2
	encryptedFlag = 1
	headSize      = 64
	sumAt         = 32       // where a plain manifest has the SHA-256 of its payload
	segmentSize   = 64 << 10 // bytes of the payload
)

func purposeOf(magic string) string {
	if magic == manifestMagic {
		return "transparent-checkpoint manifest"
	}
	return "transparent-checkpoint index"
}

// sealManifest returns the object with a payload. Whoever reads it without knowing its digest sees from it alone that it is whole.
func (k Keys) sealManifest(payload []byte) ([]byte, error) {
	var object bytes.Buffer
	object.Grow(headSize + len(payload) + (len(payload)/segmentSize+1)*tagSize)
	if err := k.seal(manifestMagic, bytes.NewReader(payload), &object); err != nil {
		return nil, err
	}
	if len(k) == 0 {
		sum := sha256.Sum256(payload)
		copy(object.Bytes()[sumAt:headSize], sum[:])
	}
	return object.Bytes(), nil
}

// openManifest returns the payload of such an object.
func (k Keys) openManifest(object []byte) ([]byte, error) {
	var payload bytes.Buffer
	payload.Grow(len(object))
	if err := k.open(manifestMagic, bytes.NewReader(object), &payload); err != nil {
		return nil, err
	}
	if !isEncrypted(object) {
		if sum := sha256.Sum256(payload.Bytes()); !bytes.Equal(sum[:], object[sumAt:headSize]) {
			return nil, fmt.Errorf("its payload has the digest %x; it has to be %x: %w", sum, object[sumAt:headSize], storage.ErrCorrupt)
		}
	}
	return payload.Bytes(), nil
}

// isEncrypted tells whether an object says so in its head; one that has none does not.
func isEncrypted(object []byte) bool {
	return len(object) >= headSize && binary.LittleEndian.Uint16(object[10:])&encryptedFlag != 0
}

// openHead returns the JSON at the beginning of such an object alone, and verifies all of it nevertheless.
func (k Keys) openHead(object io.Reader) ([]byte, error) {
	head := make([]byte, headSize)
	n, err := io.ReadFull(object, head)
	if err != nil && !endsEarly(err) {
		return nil, err
	}
	payload := &headText{sum: sha256.New()}
	if err := k.open(manifestMagic, io.MultiReader(bytes.NewReader(head[:n]), object), payload); err != nil {
		return nil, err
	}
	if sum := payload.sum.Sum(nil); binary.LittleEndian.Uint16(head[10:])&encryptedFlag == 0 && !bytes.Equal(sum, head[sumAt:]) {
		return nil, fmt.Errorf("its payload has the digest %x; it has to be %x: %w", sum, head[sumAt:], storage.ErrCorrupt)
	}
	if payload.left() > 0 {
		return nil, fmt.Errorf("it ends in its head, %d bytes too early: %w", payload.left(), storage.ErrCorrupt)
	}
	return payload.text[lengthSize:], nil
}

// headText is written a payload, and keeps the JSON at its beginning, with the length before it.
type headText struct {
	text []byte
	sum  hash.Hash
}

// lengthSize is how many bytes the length of the JSON takes.
const lengthSize = 4

// left is how many bytes of the text are to come.
func (h *headText) left() int {
	if len(h.text) < lengthSize {
		return lengthSize - len(h.text)
	}
	return lengthSize + int(binary.LittleEndian.Uint32(h.text)) - len(h.text)
}

func (h *headText) Write(data []byte) (int, error) {
	_, _ = h.sum.Write(data) // it never fails
	for rest := data; len(rest) > 0 && h.left() > 0; {
		n := min(h.left(), len(rest))
		h.text, rest = append(h.text, rest[:n]...), rest[n:]
	}
	return len(data), nil
}

// seal writes the object with a payload.
func (k Keys) seal(magic string, payload io.Reader, w io.Writer) error {
	head := make([]byte, headSize)
	copy(head, magic)
	binary.LittleEndian.PutUint16(head[8:], formatVersion)
	if len(k) == 0 {
		if _, err := w.Write(head); err != nil {
			return err
		}
		_, err := io.Copy(w, payload)
		return err
	}
	binary.LittleEndian.PutUint16(head[10:], encryptedFlag)
	copy(head[16:], k.current())
	copy(head[32:], newSalt())
	aead, err := k.aead(head[16:32], head[32:64], purposeOf(magic))
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	return eachSegment(payload, segmentSize, func(number uint64, segment []byte, last bool) error {
		_, err := w.Write(aead.Seal(segment[:0], nonce(number, last), segment, nil))
		return err
	})
}

// open writes the payload of an object, of which the last bytes may turn out to be wrong after the first ones were written.
func (k Keys) open(magic string, object io.Reader, w io.Writer) error {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(object, head); endsEarly(err) || err == nil && string(head[:8]) != magic {
		return fmt.Errorf("it does not begin with the %d bytes of a %q: %w", headSize, magic, storage.ErrCorrupt)
	} else if err != nil {
		return err
	}
	version, flags := binary.LittleEndian.Uint16(head[8:]), binary.LittleEndian.Uint16(head[10:])
	if version != formatVersion || flags&^encryptedFlag != 0 {
		return fmt.Errorf("it is of version %d with the flags %#x; they may be %d and 0 or 1: %w", version, flags, formatVersion, storage.ErrCorrupt)
	}
	if flags&encryptedFlag == 0 {
		_, err := io.Copy(w, object)
		return err
	}
	aead, err := k.aead(head[16:32], head[32:64], purposeOf(magic))
	if err != nil {
		return err
	}
	return eachSegment(object, segmentSize+tagSize, func(number uint64, segment []byte, last bool) error {
		opened, err := aead.Open(segment[:0], nonce(number, last), segment, nil)
		if err != nil {
			return fmt.Errorf("segment %d cannot be decrypted: %w", number, storage.ErrCorrupt)
		}
		_, err = w.Write(opened)
		return err
	})
}

// eachSegment reads segments of a size, of which the last may be shorter. Behind a segment is room for a tag.
func eachSegment(r io.Reader, size int, do func(number uint64, segment []byte, last bool) error) error {
	in := bufio.NewReaderSize(r, size+1)
	buffer := make([]byte, size, size+tagSize)
	for number := uint64(0); ; number++ {
		n, err := io.ReadFull(in, buffer)
		if err != nil && !endsEarly(err) {
			return err
		}
		last := err != nil
		if !last {
			_, err := in.Peek(1)
			if last = endsEarly(err); err != nil && !last {
				return err
			}
		}
		if err := do(number, buffer[:n], last); err != nil || last {
			return err
		}
	}
}

// endsEarly tells whether an error of reading is the end. That of a broken connection may say so, too, but is none.
func endsEarly(err error) bool {
	return (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) && !errors.Is(err, storage.ErrUnavailable)
}
