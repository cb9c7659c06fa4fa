package image

import (
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// plainLayer is a tar as it is. The library's own layers are always compressed, which takes longer than carrying them.
type plainLayer struct {
	open   tarball.Opener
	digest v1.Hash
	size   int64
}

func newLayer(open tarball.Opener) (*plainLayer, error) {
	content, err := open()
	if err != nil {
		return nil, err
	}
	defer content.Close()
	digest, size, err := v1.SHA256(content)
	return &plainLayer{open: open, digest: digest, size: size}, err
}

// Digest is that of the tar, as is DiffID.
func (l *plainLayer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID is the digest of what comes out of the layer.
func (l *plainLayer) DiffID() (v1.Hash, error) { return l.digest, nil }

// Compressed returns the tar, as does Uncompressed.
func (l *plainLayer) Compressed() (io.ReadCloser, error) { return l.open() }

// Uncompressed returns the tar.
func (l *plainLayer) Uncompressed() (io.ReadCloser, error) { return l.open() }

// Size is that of the tar.
func (l *plainLayer) Size() (int64, error) { return l.size, nil }

// MediaType says that nothing is compressed.
func (l *plainLayer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }
