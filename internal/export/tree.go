package export

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// kind is what becomes of an archive of a capture.
type kind int

const (
	asIs    kind = iota // but for holes
	asLayer             // what an overlay removes is said as in a layer (https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts)
)

const (
	whiteout       = ".wh."
	opaqueWhiteout = whiteout + whiteout + ".opq"

	// The extended attributes by which an overlay says what is not in its upper folder (https://docs.kernel.org/filesystems/overlayfs.html).
	overlayRecords = "SCHILY.xattr.trusted.overlay."
	opaqueRecord   = overlayRecords + "opaque"
	redirectRecord = overlayRecords + "redirect"
)

// convert writes an archive of a capture as one that everybody can read. Without content, the content of files is zeros.
func convert(w io.Writer, r io.Reader, kind kind, content bool) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if err := convertEntry(out, in, h, kind, content); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

func convertEntry(out *tar.Writer, in io.Reader, h *tar.Header, kind kind, content bool) error {
	isOpaque := false
	if kind == asLayer {
		if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 { // which stands for a removal
			return mark(out, h, whiteout+path.Base(h.Name))
		}
		if h.PAXRecords[redirectRecord] != "" {
			return errors.New("the folder was renamed, and its content is in the image under its old name; a layer cannot say that")
		}
		isOpaque = h.PAXRecords[opaqueRecord] == "y"
		h.Xattrs = nil //nolint:staticcheck // the reader fills it by the records, and the writer would write all of it again
		for name := range h.PAXRecords {
			if strings.HasPrefix(name, overlayRecords) {
				delete(h.PAXRecords, name)
			}
		}
	}
	if !content {
		in = zeros{}
	}
	if err := convertFile(out, in, h); err != nil || !isOpaque {
		return err
	}
	return mark(out, h, path.Join(path.Base(h.Name), opaqueWhiteout))
}

// mark writes an empty file with a name of its own beside what the header is of.
func mark(out *tar.Writer, h *tar.Header, name string) error {
	name = path.Join(path.Dir(path.Clean(h.Name)), name)
	return out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, ModTime: h.ModTime, Format: tar.FormatPAX})
}

// convertFile writes an entry with its holes.
func convertFile(out *tar.Writer, in io.Reader, h *tar.Header) error {
	parts := []capture.Extent{{Length: h.Size}}
	if record, ok := h.PAXRecords[capture.SparseRecord]; ok {
		var err error
		if h.Size, parts, err = capture.ParseSparse(record, h.Size); err != nil {
			return err
		}
		delete(h.PAXRecords, capture.SparseRecord)
	}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	end := int64(0)
	for _, part := range append(parts, capture.Extent{Offset: h.Size}) {
		if _, err := io.CopyN(out, zeros{}, part.Offset-end); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, part.Length); err != nil {
			return err
		}
		end = part.Offset + part.Length
	}
	return nil
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
