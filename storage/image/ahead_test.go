package image

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparent-checkpoint/operator/storage"
)

// large is memory of some items, with zeros in it.
func large() process {
	return process{
		0x10000:        noise(1, 100*testPage),
		0x7f0000000000: noise(2, 9<<20) + strings.Repeat("\x00", 9<<20) + strings.Repeat("half", 2<<20) + noise(3, 5<<20),
	}
}

// grow writes the pages of a process into a directory as CRIU does, piece by piece, and tells of each.
func (p process) grow(t *testing.T, dir string, tell func(path string, size int64) error) error {
	t.Helper()
	const path = "containers/a/criu/pages-1.img"
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(filepath.Join(dir, path), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	random := rand.New(rand.NewPCG(1, 2))
	for rest, size := p.images()[path].data, int64(0); len(rest) > 0; {
		n, err := out.WriteString(rest[:min(len(rest), 1+random.IntN(3<<20))])
		if err != nil {
			t.Fatal(err)
		}
		rest, size = rest[n:], size+int64(n)
		if err := tell(path, size); err != nil {
			return err
		}
	}
	return nil
}

func TestWhatIsSentAheadIsNotSentAgain(t *testing.T) {
	t.Parallel()
	folders(t, func(t *testing.T, f *Folder) {
		p, parent := large(), t.TempDir()
		dir := filepath.Join(parent, "1.partial")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		a, err := f.Ahead(t.Context(), "first", dir, filepath.Join(dir, "agent-upload"))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.grow(t, dir, a.Grow); err != nil {
			t.Fatal(err)
		}
		sent, err := a.Close()
		if err != nil || sent < 12<<20 {
			t.Fatalf("%d bytes were sent ahead: %v", sent, err)
		}
		write(t, dir, p.images())
		final := filepath.Join(parent, "1")
		if err := os.Rename(dir, final); err != nil {
			t.Fatal(err)
		}
		options := UploadOptions{State: filepath.Join(final, "agent-upload")}
		summary, err := f.Upload(t.Context(), "first", final, options)
		if err != nil || summary.Sent > 4<<20 {
			t.Fatalf("%d bytes were sent again: %v", summary.Sent, err)
		}
		first := Checkpoint{"first", summary.ManifestDigest}
		p.expect(t, f, first)
		second := p.change(4, 50)
		changed, _ := second.upload(t, f, "second", first)
		second.expect(t, f, changed)
		if _, shared := p.upload(t, f, "third", first); shared.Sent > 1<<20 { // the map alone
			t.Errorf("the same memory is sent again: %d bytes", shared.Sent)
		}
		if _, err := f.Ahead(t.Context(), "first", final, options.State); !errors.Is(err, ErrBegun) {
			t.Errorf("to begin again is the error %v; it has to be %v", err, ErrBegun)
		}
	})
}

// TestAheadMayEndAnywhere ends it before and after each of its steps. What is uploaded then is right, and nothing is left when it is deleted.
func TestAheadMayEndAnywhere(t *testing.T) {
	t.Parallel()
	p := large()
	for after := 1; after <= 4; after++ {
		for _, before := range []bool{false, true} {
			f, dir := folder(t), t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			w := &watched{Store: f.Store, after: after, before: before, cancel: cancel}
			f.Store = w
			state := filepath.Join(dir, "agent-upload")
			if a, err := f.Ahead(ctx, "first", dir, state); err == nil {
				_ = p.grow(t, dir, a.Grow)
				if _, err := a.Close(); err == nil && after < 3 {
					t.Errorf("it has ended well after %d steps", after)
				}
			}
			cancel()
			w.after = 0
			write(t, dir, p.images())
			summary, err := f.Upload(t.Context(), "first", dir, UploadOptions{State: state})
			if err != nil {
				t.Fatal(err)
			}
			p.expect(t, f, Checkpoint{"first", summary.ManifestDigest})
			if err := f.Delete(t.Context(), "first"); err != nil {
				t.Fatal(err)
			}
			if left := keys(t, f.Store, ""); len(left) > 0 {
				t.Errorf("after it is deleted there are %v", left)
			}
		}
	}
}

func TestAheadIsRefused(t *testing.T) {
	t.Parallel()
	f := folder(t)
	if _, err := f.Ahead(t.Context(), "first", t.TempDir(), ""); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("without a state it is the error %v", err)
	}
	if _, err := f.Ahead(t.Context(), "a/b", t.TempDir(), "state"); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("with a slash in its name it is the error %v", err)
	}
}
