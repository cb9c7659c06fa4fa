package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/transparent-checkpoint/operator/storage"
)

// ChunkSize is the size in bytes of the pieces in which Upload stores files. Fetch takes other sizes, too, up to maxChunkSize.
const ChunkSize = 16 << 20

// What a manifest may have. The memory that reading one takes is bounded by its own size, since no number in it says what to allocate.
const (
	formatName      = "transparent-checkpoint/image"
	formatVersion   = 1
	maxManifestSize = 16 << 20 // bytes
	maxChunkSize    = 64 << 20 // bytes
	maxFileSize     = 1 << 44  // bytes
	maxTotalSize    = 1 << 46  // bytes
	manifestName    = "manifest.json"
	dataFolder      = "data"
	digestAlgorithm = "sha256:"
	kindFile        = "file"
	kindDirectory   = "directory"
	zeroChunk       = ""    // stands in the list of chunks for one that is all zero
	compressed      = ".s2" // ends the name of a chunk that is stored as an S2 block
	modeDigits      = 4
	digestDigits    = 2 * sha256.Size
)

// manifest is the object manifest.json.
type manifest struct {
	Format    string  `json:"format"`
	Version   int     `json:"version"`
	ChunkSize int64   `json:"chunkSize"` // bytes
	Entries   []entry `json:"entries"`
}

// entry is a file or a directory. A directory comes before what is in it.
type entry struct {
	Path string `json:"path"` // with slashes, relative to the top
	Kind string `json:"kind"`
	Mode string `json:"mode"` // four octal digits: the permissions
	Size int64  `json:"size"` // bytes; 0 for a directory
	// Chunks are the names of the objects with the file's pieces: piece i begins at i × ChunkSize. A name is the SHA-256 of the piece in
	// hexadecimal digits, with the suffix compressed if the object is. zeroChunk is a piece that is not stored.
	Chunks []string `json:"chunks,omitempty"`
}

func encodeMode(mode fs.FileMode) string { return fmt.Sprintf("%0*o", modeDigits, mode.Perm()) }

// perm returns the permissions of a checked entry.
func (e *entry) perm() fs.FileMode {
	mode, _ := strconv.ParseUint(e.Mode, 8, 9) // check has done the same
	return fs.FileMode(mode)
}

// chunkLength returns the bytes of piece i.
func (e *entry) chunkLength(i int, chunkSize int64) int64 {
	return min(chunkSize, e.Size-int64(i)*chunkSize)
}

// encode returns the bytes of the object, the same for the same directory, and their digest.
func (m *manifest) encode() (data []byte, digest string, err error) {
	if data, err = json.Marshal(m); err != nil {
		return nil, "", err
	}
	data = append(data, '\n')
	if len(data) > maxManifestSize {
		return nil, "", fmt.Errorf("manifest has %d bytes; it may have %d: %w", len(data), maxManifestSize, storage.ErrInvalid)
	}
	return data, digestOf(data), nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return digestAlgorithm + hex.EncodeToString(sum[:])
}

// parseManifest reads a manifest of which nothing is known. Whatever is wrong with it is storage.ErrCorrupt.
func parseManifest(data []byte) (*manifest, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	m := &manifest{}
	if err := decoder.Decode(m); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", storage.ErrCorrupt, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("manifest goes on after its end: %w", storage.ErrCorrupt)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", storage.ErrCorrupt, err)
	}
	return m, nil
}

func (m *manifest) check() error {
	if m.Format != formatName || m.Version != formatVersion {
		return fmt.Errorf("format is %q, version %d; it may be %q, version %d", m.Format, m.Version, formatName, formatVersion)
	}
	if m.ChunkSize < 1 || m.ChunkSize > maxChunkSize {
		return fmt.Errorf("chunkSize is %d bytes; it may be 1 to %d", m.ChunkSize, maxChunkSize)
	}
	total := int64(0)
	kinds := map[string]string{".": kindDirectory} // by path
	for i := range m.Entries {
		e := &m.Entries[i]
		if err := storage.CheckKey("path", e.Path); err != nil { // so it is local, and means the same everywhere
			return err
		}
		if isAgentNote(e.Path) {
			return fmt.Errorf("%q is a name of the agent's own notes", e.Path)
		}
		if kinds[e.Path] != "" {
			return fmt.Errorf("%q comes twice", e.Path)
		}
		if parent := path.Dir(e.Path); kinds[parent] != kindDirectory {
			return fmt.Errorf("%q comes without its directory before it", e.Path)
		}
		kinds[e.Path] = e.Kind
		if err := e.check(m.ChunkSize); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
		if total += e.Size; total > maxTotalSize {
			return fmt.Errorf("the files have more than %d bytes", int64(maxTotalSize))
		}
	}
	return nil
}

func (e *entry) check(chunkSize int64) error {
	if _, err := strconv.ParseUint(e.Mode, 8, 9); err != nil || len(e.Mode) != modeDigits {
		return fmt.Errorf("mode is %q; it may be 0000 to 0777", e.Mode)
	}
	switch {
	case e.Kind == kindDirectory && e.Size == 0 && len(e.Chunks) == 0:
		return nil
	case e.Kind == kindDirectory:
		return errors.New("it is a directory; it may have neither size nor chunks")
	case e.Kind != kindFile:
		return fmt.Errorf("kind is %q; it may be %q or %q", e.Kind, kindFile, kindDirectory)
	case e.Size < 0 || e.Size > maxFileSize:
		return fmt.Errorf("size is %d bytes; it may be 0 to %d", e.Size, int64(maxFileSize))
	}
	if want := (e.Size + chunkSize - 1) / chunkSize; int64(len(e.Chunks)) != want {
		return fmt.Errorf("%d chunks; for %d bytes it may have %d", len(e.Chunks), e.Size, want)
	}
	for _, chunk := range e.Chunks {
		if chunk != zeroChunk && !isHexDigest(strings.TrimSuffix(chunk, compressed)) {
			return fmt.Errorf("chunk is %q; it may be empty, or %d hexadecimal digits with or without %q", chunk, digestDigits, compressed)
		}
	}
	return nil
}

// agentNotes is how the names begin of what the agent keeps for itself at the top of a directory. Uploads leave it out, and what is fetched must
// not pass for it.
const agentNotes = "agent"

func isAgentNote(name string) bool {
	return !strings.Contains(name, "/") && strings.HasPrefix(name, agentNotes)
}

func isHexDigest(text string) bool {
	return len(text) == digestDigits && strings.Trim(text, "0123456789abcdef") == ""
}

// readManifest reads the manifest below a prefix and compares it with its digest before it looks inside.
func readManifest(ctx context.Context, store storage.Store, prefix, digest string) (*manifest, error) {
	if digits, ok := strings.CutPrefix(digest, digestAlgorithm); !ok || !isHexDigest(digits) {
		return nil, fmt.Errorf("digest of the manifest is %q; it may be %q and %d hexadecimal digits: %w",
			digest, digestAlgorithm, digestDigits, storage.ErrInvalid)
	}
	body, err := store.Get(ctx, path.Join(prefix, manifestName), storage.Range{})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxManifestSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxManifestSize {
		return nil, fmt.Errorf("manifest has more than %d bytes: %w", maxManifestSize, storage.ErrCorrupt)
	}
	if got := digestOf(data); got != digest {
		return nil, fmt.Errorf("manifest has the digest %s; it has to be %s: %w", got, digest, storage.ErrCorrupt)
	}
	return parseManifest(data)
}

func chunkKey(prefix, chunk string) string { return path.Join(prefix, dataFolder, chunk) }
