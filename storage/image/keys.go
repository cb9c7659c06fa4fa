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

// sealManifest returns the object of a manifest. Whoever reads it without knowing its digest sees from it alone that it is whole.
func (k Keys) sealManifest(m *manifest) ([]byte, error) {
	if len(k) > 0 {
		payload, err := m.encode(0)
		if err != nil {
			return nil, err
		}
		var object bytes.Buffer
		object.Grow(headSize + len(payload) + (len(payload)/segmentSize+1)*tagSize)
		err = k.seal(manifestMagic, bytes.NewReader(payload), &object)
		return object.Bytes(), err
	}
	object, err := m.encode(headSize)
	if err != nil {
		return nil, err
	}
	putTop(object, manifestMagic)
	sum := sha256.Sum256(object[headSize:])
	copy(object[sumAt:headSize], sum[:])
	return object, nil
}

// putTop writes what all heads begin with.
func putTop(head []byte, magic string) {
	copy(head, magic)
	binary.LittleEndian.PutUint16(head[8:], formatVersion)
}

// openManifest returns the payload of such an object, and makes it in the object's own place.
func (k Keys) openManifest(object []byte) ([]byte, error) {
	head, aead, err := k.openTop(manifestMagic, bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	payload := object[headSize:]
	if aead == nil {
		return payload, checkSum(head, sha256.Sum256(payload))
	}
	opened := payload[:0] // it never overtakes what is read
	err = openSegments(aead, bytes.NewReader(payload), func(segment []byte) error {
		opened = append(opened, segment...)
		return nil
	})
	return opened, err
}

// isEncrypted tells whether an object says so in its head; one that has none does not.
func isEncrypted(object []byte) bool {
	return len(object) >= headSize && binary.LittleEndian.Uint16(object[10:])&encryptedFlag != 0
}

// openHead returns the JSON at the beginning of such an object alone, and verifies all of it nevertheless.
func (k Keys) openHead(object io.Reader) ([]byte, error) {
	head, aead, err := k.openTop(manifestMagic, object)
	if err != nil {
		return nil, err
	}
	text, sum := &headText{}, sha256.New()
	if aead == nil {
		if _, err = io.Copy(io.MultiWriter(text, sum), object); err == nil {
			err = checkSum(head, [sha256.Size]byte(sum.Sum(nil)))
		}
	} else {
		err = openSegments(aead, object, func(segment []byte) error {
			_, err := text.Write(segment)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	if text.left() > 0 {
		return nil, fmt.Errorf("it ends in its head, %d bytes too early: %w", text.left(), storage.ErrCorrupt)
	}
	return text.text[lengthSize:], nil
}

// checkSum compares the payload of a plain manifest with its head.
func checkSum(head []byte, sum [sha256.Size]byte) error {
	if !bytes.Equal(sum[:], head[sumAt:headSize]) {
		return fmt.Errorf("its payload has the digest %x; it has to be %x: %w", sum, head[sumAt:headSize], storage.ErrCorrupt)
	}
	return nil
}

// headText is written a payload, and keeps the JSON at its beginning, with the length before it.
type headText struct{ text []byte }

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
	for rest := data; len(rest) > 0 && h.left() > 0; {
		n := min(h.left(), len(rest))
		h.text, rest = append(h.text, rest[:n]...), rest[n:]
	}
	return len(data), nil
}

// seal writes the object with a payload.
func (k Keys) seal(magic string, payload io.Reader, w io.Writer) error {
	head := make([]byte, headSize)
	putTop(head, magic)
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
	_, aead, err := k.openTop(magic, object)
	if err != nil {
		return err
	}
	if aead == nil {
		_, err := io.Copy(w, object)
		return err
	}
	return openSegments(aead, object, func(segment []byte) error {
		_, err := w.Write(segment)
		return err
	})
}

// openTop reads the head of an object, and returns it with the cipher of what is behind it; nil if that is not encrypted.
func (k Keys) openTop(magic string, object io.Reader) ([]byte, cipher.AEAD, error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(object, head); endsEarly(err) || err == nil && string(head[:8]) != magic {
		return nil, nil, fmt.Errorf("it does not begin with the %d bytes of a %q: %w", headSize, magic, storage.ErrCorrupt)
	} else if err != nil {
		return nil, nil, err
	}
	version, flags := binary.LittleEndian.Uint16(head[8:]), binary.LittleEndian.Uint16(head[10:])
	if version != formatVersion || flags&^encryptedFlag != 0 {
		return nil, nil, fmt.Errorf("it is of version %d with the flags %#x; they may be %d and 0 or 1: %w", version, flags, formatVersion, storage.ErrCorrupt)
	}
	if flags&encryptedFlag == 0 {
		return head, nil, nil
	}
	aead, err := k.aead(head[16:32], head[32:64], purposeOf(magic))
	return head, aead, err
}

// openSegments decrypts what is behind a head.
func openSegments(aead cipher.AEAD, object io.Reader, take func(segment []byte) error) error {
	return eachSegment(object, segmentSize+tagSize, func(number uint64, segment []byte, last bool) error {
		opened, err := aead.Open(segment[:0], nonce(number, last), segment, nil)
		if err != nil {
			return fmt.Errorf("segment %d cannot be decrypted: %w", number, storage.ErrCorrupt)
		}
		return take(opened)
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
