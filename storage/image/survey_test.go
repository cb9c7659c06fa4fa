package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/transparent-checkpoint/operator/storage"
)

// TestAttributesThatNoManifestCanNameAreRefused, rather than to come back under another name.
func TestAttributesThatNoManifestCanNameAreRefused(t *testing.T) {
	t.Parallel()
	f, dir := folder(t), t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := syscall.Setxattr(path, "user.\xff", []byte("here"), 0)
	if errors.Is(err, syscall.ENOTSUP) {
		t.Skip("the file system has no attributes of users")
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Upload(t.Context(), "c", dir, UploadOptions{}); !errors.Is(err, storage.ErrInvalid) || !strings.Contains(err.Error(), `"user.\xff"`) {
		t.Errorf("have the error %v, want %v that names the attribute", err, storage.ErrInvalid)
	}
}
