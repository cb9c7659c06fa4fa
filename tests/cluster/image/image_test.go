package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"
)

func TestTarTreeWritesRemovalsAsImagesDo(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{"etc/kept": "kept", "bin/tool": "tool"} {
		file := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		os.Link(filepath.Join(root, "bin/tool"), filepath.Join(root, "bin/twin")),
		os.Symlink("tool", filepath.Join(root, "bin/link")),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"bin/": "5", "bin/link": "2→tool", "bin/tool": "0 tool", "bin/twin": "1→bin/tool", "etc/": "5", "etc/kept": "0 kept",
	}
	if os.Getuid() == 0 { // only root makes devices and trusted attributes
		if err := unix.Mknod(filepath.Join(root, "etc/gone"), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
		want["etc/.wh.gone"] = "0 "
		if err := unix.Setxattr(filepath.Join(root, "etc"), "trusted.overlay.opaque", []byte("y"), 0); err == nil { // the file system may have none
			want["etc/.wh..wh..opq"] = "0 "
		}
	}
	target := filepath.Join(t.TempDir(), "layer.tar")
	if err := tarTree(root, target, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, entries(t, target)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// entries describes the files of a tar by their type, and by what they lead to or hold.
func entries(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for archive := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		text := string(header.Typeflag)
		if header.Linkname != "" {
			text += "→" + header.Linkname
		} else if header.Typeflag == tar.TypeReg {
			text += " " + string(content)
		}
		found[header.Name] = text
	}
}

func TestWhatIsBuiltCanBePulledUnderAnyHost(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "program")
	if err := os.WriteFile(binary, []byte("not really one"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := FromBinary("my-image:latest", binary, filepath.Join(dir, "my-image.tar"), Config{User: "1000", StopSignal: "SIGRTMIN+3"}); err != nil {
		t.Fatal(err)
	}
	tags, err := Tags(filepath.Join(dir, "my-image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"my-image:latest"}, tags); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	address := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ServeRegistry(ctx, address, dir) }()
	defer func() {
		cancel()
		t.Log("the registry ended:", <-ended)
	}()
	tag, err := name.NewTag(address+"/library/my-image:latest", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	var pullErr error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		image, err := remote.Image(tag)
		if pullErr = err; err != nil {
			continue
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if got := config.Config; got.User != "1000" || got.StopSignal != "SIGRTMIN+3" || !cmp.Equal(got.Entrypoint, []string{"/program"}) {
			t.Errorf("its configuration is %+v", got)
		}
		layers, err := image.Layers()
		if err != nil {
			t.Fatal(err)
		}
		content, err := layers[0].Compressed() // that is: as it was sent
		if err != nil {
			t.Fatal(err)
		}
		if header, err := tar.NewReader(content).Next(); err != nil || header.Name != "program" {
			t.Errorf("its layer is no plain tar with the program: %v, %v", header, err)
		}
		return
	}
	t.Fatal(pullErr)
}

func TestAFolderBecomesTheSameImageEachTime(t *testing.T) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	program, data := filepath.Join(tree, "opt/program"), filepath.Join(tree, "opt/data")
	if err := errors.Join(os.MkdirAll(filepath.Dir(program), 0o700), os.WriteFile(program, nil, 0o700), os.WriteFile(data, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	var archives [2][]byte
	for i := range archives {
		if err := os.Chtimes(program, time.Now(), time.Unix(int64(i), 0)); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, "image.tar")
		if err := FromTree("localhost/tree:dev", tree, target, Config{Entrypoint: []string{"/opt/program"}}); err != nil {
			t.Fatal(err)
		}
		var err error
		if archives[i], err = os.ReadFile(target); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("the second archive differs from the first")
	}
	if err := FromTree("localhost/tree:dev", tree, filepath.Join(dir, "image.tar"), Config{}); err == nil {
		t.Error("an image of a folder was made without an entrypoint")
	}
}

func TestTagsSayWhatIsWrongWithAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Tags(path); err == nil {
		t.Error("a file that is no archive has tags")
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
