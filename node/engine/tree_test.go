package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// needsRoot skips a test that sets owners and makes devices; in CI it must run.
func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("only root can set owners and make devices")
	}
}

func TestATreeComesBackAsItWas(t *testing.T) {
	needsRoot(t)
	from := t.TempDir()
	at := func(name string) string { return filepath.Join(from, name) }
	err := errors.Join(
		os.MkdirAll(at("etc/deep"), 0o755), os.WriteFile(at("etc/deep/file"), []byte("content"), 0o600), os.WriteFile(at("suid"), nil, 0o755),
		os.Chown(at("etc/deep/file"), 1000, 1001), os.Chmod(at("suid"), 0o755|fs.ModeSetuid), os.Chmod(at("etc"), 0o777|fs.ModeSticky),
		os.Link(at("etc/deep/file"), at("twin")), os.Symlink("../outside/of/it", at("link")), os.Lchown(at("link"), 7, 7),
		unix.Mkfifo(at("fifo"), 0o640), unix.Mknod(at("gone"), unix.S_IFCHR|0o600, 0),
		unix.Setxattr(at("etc"), "trusted.overlay.opaque", []byte("y"), 0), unix.Setxattr(at("etc"), "trusted.overlay.origin", []byte("here"), 0),
		unix.Setxattr(at("suid"), "user.note", []byte("of the user"), 0), unix.Setxattr(at("suid"), "user.a=b%c", []byte("zero\x00inside"), 0),
		os.WriteFile(at("not \xff utf-8"), nil, 0o600), os.WriteFile(at("line\nbreak"), nil, 0o600), makeDeep(at("deep")),
		unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Chtimes(at("etc/deep/file"), time.Unix(1_600_000_000, 5), time.Unix(1_600_000_000, 5)),
		os.Chtimes(at("etc"), time.Unix(1_500_000_000, 0), time.Unix(1_500_000_000, 0)),
	)
	if err != nil {
		t.Fatal(err)
	}
	archive, to := filepath.Join(t.TempDir(), "tree.tar"), t.TempDir()
	if err := saveTree(t.Context(), from, "", archive); err != nil {
		t.Fatal(err)
	}
	if err := loadTree(t.Context(), archive, to); err != nil {
		t.Fatal(err)
	}
	want := describe(t, from)
	want["etc"] = strings.ReplaceAll(want["etc"], " trusted.overlay.origin=here", "") // true on its own node alone
	if diff := cmp.Diff(want, describe(t, to)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// makeDeep makes a folder whose deepest path has 6,000 bytes, more than a call takes.
func makeDeep(root string) error {
	err := os.Mkdir(root, 0o755)
	folder, openErr := os.OpenRoot(root)
	for range 30 {
		if err = errors.Join(err, openErr); err != nil {
			return err
		}
		name := strings.Repeat("d", 200)
		err = folder.Mkdir(name, 0o755)
		folder, openErr = folder.OpenRoot(name)
	}
	return errors.Join(err, openErr)
}

// describe says of every file of a tree what must come back.
func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, unix.ENAMETOOLONG) {
			found["too deep for this"] = path[len(root):]
			return filepath.SkipDir
		}
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		text := fmt.Sprintf("%s %d:%d rdev=%d", info.Mode(), stat.Uid, stat.Gid, stat.Rdev)
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %q links=%d %d", content, stat.Nlink, info.ModTime().UnixNano())
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " → " + target
		case info.IsDir() && path != root:
			text += fmt.Sprint(" ", info.ModTime().Unix())
		}
		for _, name := range []string{"trusted.overlay.opaque", "trusted.overlay.origin", "user.note", "user.a=b%c"} {
			value := make([]byte, 100)
			if n, err := unix.Lgetxattr(path, name, value); err == nil {
				text += fmt.Sprintf(" %s=%s", name, value[:n])
			}
		}
		name, err := filepath.Rel(root, path)
		found[name] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAnArchiveCannotReachOutOfItsTree(t *testing.T) {
	needsRoot(t)
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	for what, test := range map[string]struct {
		entries []tar.Header
		want    string
	}{
		"a name that climbs":       {entries: []tar.Header{file("../evil")}, want: `the archive names "../evil", which is outside`},
		"a name that climbs later": {entries: []tar.Header{file("a/../../evil")}, want: "which is outside"},
		"an absolute name":         {entries: []tar.Header{file("/evil")}, want: `the archive names "/evil", which is outside`},
		"a file through a symlink": {
			entries: []tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/"}, file("a/evil")},
			want:    "not a directory",
		},
		"a file through .. symlink": {
			entries: []tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: ".."}, file("a/evil")},
			want:    "not a directory",
		},
		"a hard link to the outside": {
			entries: []tar.Header{{Name: "a", Typeflag: tar.TypeLink, Linkname: "../evil"}},
			want:    `it is a link to "../evil", which is outside`,
		},
		"a block device": {
			entries: []tar.Header{{Name: "a", Typeflag: tar.TypeBlock, Devmajor: 8}},
			want:    `restore "a": it is of type '4'`,
		},
		"a character device": {
			entries: []tar.Header{{Name: "a", Typeflag: tar.TypeChar, Devmajor: 10, Devminor: 232}},
			want:    "it is a device, 10:232",
		},
		"a device by overflow": {
			entries: []tar.Header{{Name: "a", Typeflag: tar.TypeChar, Devmajor: 1 << 32, Devminor: 0, Format: tar.FormatGNU}},
			want:    "it is a device",
		},
		"a hard link through a link": {
			entries: []tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, {Name: "b", Typeflag: tar.TypeLink, Linkname: "a/passwd"}},
			want:    "not a directory",
		},
		"a root that is a file": {entries: []tar.Header{file(".")}, want: "the root of the archive is of type"},
		"a pipe as a folder": {
			entries: []tar.Header{{Name: "a", Typeflag: tar.TypeFifo}, {Name: "a/b", Typeflag: tar.TypeFifo}},
			want:    "not a directory",
		},
		"one file twice": {entries: []tar.Header{file("a"), file("a")}, want: "file exists"},
	} {
		t.Run(what, func(t *testing.T) {
			outside := t.TempDir()
			root := filepath.Join(outside, "root")
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			for _, header := range test.entries {
				if err := w.WriteHeader(&header); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			err := readInto(&archive, root)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v, which lacks %q", err, test.want)
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
				t.Errorf("outside lie %v, %v", entries, err)
			}
		})
	}
}

func readInto(archive io.Reader, dir string) error {
	into, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer into.Close()
	return readTree(context.Background(), archive, into)
}

func TestADeviceIsNotCaptured(t *testing.T) {
	needsRoot(t)
	root := t.TempDir()
	if err := unix.Mknod(filepath.Join(root, "kvm"), unix.S_IFCHR|0o600, int(unix.Mkdev(10, 232))); err != nil {
		t.Fatal(err)
	}
	if err := writeTree(t.Context(), &bytes.Buffer{}, root, ""); err == nil || !strings.Contains(err.Error(), `"kvm": it is a device, 10:232`) {
		t.Errorf("it says %v", err)
	}
}

func FuzzReadTree(f *testing.F) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "a/../b", Typeflag: tar.TypeSymlink, Linkname: "/etc"}); err != nil {
		f.Fatal(err)
	}
	f.Add(archive.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		outside := t.TempDir()
		root := filepath.Join(outside, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = readInto(bytes.NewReader(data), root) // whatever it says
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
			t.Errorf("outside lie %v, %v", entries, err)
		}
	})
}
