package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// full is a folder on a disk that has room for so many bytes.
func full(t *testing.T, room string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it takes root to mount a small disk")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+room); err != nil {
		t.Skipf("a small disk cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestAFullDiskHoldsNoUploadUp: it would free the disk.
func TestAFullDiskHoldsNoUploadUp(t *testing.T) {
	t.Parallel()
	p := memory(1)
	p[0x100000000] = noise(3, 9000*testPage)
	for room, want := range map[string][]string{
		"4k":   {"without a journal", "without an index", "without the base first"},
		"40k":  {"without a journal", "without an index", "without the base first"},
		"200k": {"without an index"},
		"400k": {"without an index"},
		"8m":   nil,
	} {
		t.Run(room, func(t *testing.T) {
			t.Parallel()
			f, dir, disk := folder(t), t.TempDir(), full(t, room)
			first, _ := p.upload(t, f, "first")
			write(t, dir, p.change(2, 2).images())
			var told []string
			options := UploadOptions{Bases: []Checkpoint{first}, State: filepath.Join(disk, "state"), Trouble: func(err error) { told = append(told, err.Error()) }}
			summary, err := f.Upload(t.Context(), "second", dir, options)
			if err != nil {
				t.Fatal(err)
			}
			for _, what := range want {
				if !strings.Contains(strings.Join(told, "\n"), what) {
					t.Errorf("it does not tell that it goes on %s: %q", what, told)
				}
			}
			if len(want) == 0 && len(told) > 0 {
				t.Errorf("there is room, and it tells %q", told)
			}
			second := Checkpoint{"second", summary.ManifestDigest}
			p.change(2, 2).expect(t, f, second)
			m, err := f.manifest(t.Context(), second, nil)
			if err != nil || (m.Index == "") != strings.Contains(strings.Join(told, "\n"), "without an index") {
				t.Errorf("its index is %q (%v), and it told %q", m.Index, err, told)
			}
			again, err := f.Upload(t.Context(), "second", dir, options) // with what stands in the journal, where there is one
			if err != nil || again.Sent > 0 && len(want) == 0 {
				t.Errorf("once more it sends %d bytes (%v)", again.Sent, err)
			}
			second.Digest = again.ManifestDigest
			third, _ := p.change(2, 2).upload(t, f, "third", second) // a base without an index is none
			p.change(2, 2).expect(t, f, third)
		})
	}
}
