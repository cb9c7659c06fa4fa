package export

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	metadata "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/storage/filesystem"
	"github.com/transparent-checkpoint/operator/storage/image"
)

var (
	began = time.Date(2026, 11, 26, 15, 6, 58, 0, time.UTC)
	aDay  = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
)

// stats is a stats-dump of CRIU.
const stats = "\x40\x59\x10\x55\x06\x33\x09\x57\x29\x00\x00\x00\x0a\x27\x08\xde\x03\x10\xf4\xd1\x0a\x18\x96\xf7\x06\x20" +
	"\xa3\xb2\x05\x28\xfa\x81\x04\x30\x00\x38\xc8\x81\x04\x40\x00\x48\x00\x50\x08\x58\x08\x60\x00\x68\x00\x70\x00"

// entry is what a tar has of a file.
type entry struct {
	Kind    byte
	Name    string
	Link    string
	Size    int64
	Records map[string]string
	Content string
}

func tarOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, e := range entries {
		h := &tar.Header{
			Typeflag: e.Kind, Name: e.Name, Linkname: e.Link, Size: int64(len(e.Content)), Mode: 0o640, ModTime: aDay.Add(1500 * time.Millisecond),
			Format: tar.FormatPAX, PAXRecords: e.Records,
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

// untar returns the entries of a tar, of whose records only those that are no field of a header.
func untar(t *testing.T, data []byte) (entries []entry) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(h.PAXRecords, func(name, _ string) bool { return !strings.Contains(name, ".") })
		e := entry{Kind: h.Typeflag, Name: h.Name, Link: h.Linkname, Size: h.Size, Content: string(content)}
		if len(h.PAXRecords) > 0 {
			e.Records = h.PAXRecords
		}
		entries = append(entries, e)
	}
}

// captured is the folder of a capture of a pod with two containers.
func captured(t *testing.T, change func(*capture.Capture)) fs.FS {
	t.Helper()
	record := &capture.Capture{
		State: capture.Complete, Pod: capture.Pod{Namespace: "shop", Name: "web-0", UID: "the-uid"}, Started: began, Shm: true, Volumes: []string{"data"},
		Timings: capture.Timings{Frozen: time.Second},
		Containers: []capture.Container{
			{Name: "app", ID: "0123456789abcdef", Image: "registry.test/app:1", Security: &capture.Security{
				UID: 1000, GID: 1001, Groups: []uint32{7}, NoNewPrivileges: true, ReadOnlyRoot: true, Masked: []string{"/proc/kcore"},
				Capabilities: map[string][]string{"bounding": {"CAP_KILL"}}, Mounts: map[string][]string{"/etc/hosts": nil, "/data": {"ro"}},
			}},
			{Name: "side", ID: "fedcba9876543210", Image: "side"},
		},
	}
	if change != nil {
		change(record)
	}
	dir := t.TempDir()
	files := map[string]string{
		"containers/app/criu/inventory.img": "inventory", "containers/app/criu/pages-1.img": strings.Repeat("memory", 100000),
		"containers/side/criu/inventory.img": "inventory of the other",
		"log/app/dump.log":                   "(00.1) Dumping", "log/app/stats-dump": stats, "log/app/runtime.log": "",
		"containers/app/rootfs.tar": string(tarOf(t, root...)),
		"pod/shm.tar":               string(tarOf(t, entry{Kind: tar.TypeDir, Name: "./"}, entry{Kind: tar.TypeReg, Name: "segment", Content: "shared"})),
		"volumes/data.tar": string(tarOf(t, entry{
			Kind: tar.TypeReg, Name: "sparse", Content: "islands", Records: map[string]string{capture.SparseRecord: "100000 5 6 99999 1"},
		})),
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600), os.Chtimes(path, aDay, aDay)); err != nil {
			t.Fatal(err)
		}
	}
	if err := record.Write(dir); err != nil {
		t.Fatal(err)
	}
	return os.DirFS(dir)
}

// root are the changes of a root file system, as a capture has them, and layer is what becomes of them.
var (
	root = []entry{
		{Kind: tar.TypeDir, Name: "./"},
		{Kind: tar.TypeDir, Name: "etc/", Records: map[string]string{opaqueRecord: "y", "SCHILY.xattr.user.note": "kept"}},
		{Kind: tar.TypeChar, Name: "etc/removed"},
		{Kind: tar.TypeChar, Name: "removed at the top"},
		{Kind: tar.TypeReg, Name: "etc/file", Content: "content"},
		{Kind: tar.TypeLink, Name: "etc/link", Link: "etc/file"},
		{Kind: tar.TypeReg, Name: "hole", Records: map[string]string{capture.SparseRecord: "4096"}},
		{Kind: tar.TypeReg, Name: "sparse", Content: "endhere", Records: map[string]string{capture.SparseRecord: "20 0 3 16 4"}},
	}
	layer = []entry{
		{Kind: tar.TypeDir, Name: "./"},
		{Kind: tar.TypeDir, Name: "etc/", Records: map[string]string{"SCHILY.xattr.user.note": "kept"}},
		{Kind: tar.TypeReg, Name: "etc/.wh..wh..opq"},
		{Kind: tar.TypeReg, Name: "etc/.wh.removed"},
		{Kind: tar.TypeReg, Name: ".wh.removed at the top"},
		{Kind: tar.TypeReg, Name: "etc/file", Size: 7, Content: "content"},
		{Kind: tar.TypeLink, Name: "etc/link", Link: "etc/file"},
		{Kind: tar.TypeReg, Name: "hole", Size: 4096, Content: strings.Repeat("\x00", 4096)},
		{Kind: tar.TypeReg, Name: "sparse", Size: 20, Content: "end" + strings.Repeat("\x00", 13) + "here"},
	}
)

func export(t *testing.T, files fs.FS, container string) []byte {
	t.Helper()
	pod, err := Open(files)
	if err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	if err := pod.Write(&data, container); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

func TestAnArchiveHasEverything(t *testing.T) {
	t.Parallel()
	files := captured(t, nil)
	var names []string
	content := map[string][]byte{}
	for _, e := range untar(t, export(t, files, "app")) {
		names = append(names, e.Name)
		content[e.Name] = []byte(e.Content)
	}
	want := []string{
		"spec.dump", "config.dump", "dump.log", "stats-dump", "rootfs-diff.tar", "devshm-checkpoint.tar", "volumes/data.tar",
		"checkpoint/", "checkpoint/inventory.img", "checkpoint/pages-1.img",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	for name, from := range map[string]string{
		"dump.log": "log/app/dump.log", "stats-dump": "log/app/stats-dump",
		"checkpoint/inventory.img": "containers/app/criu/inventory.img", "checkpoint/pages-1.img": "containers/app/criu/pages-1.img",
	} {
		if was, err := fs.ReadFile(files, from); err != nil || !bytes.Equal(was, content[name]) {
			t.Errorf("%s is not %s (%v)", name, from, err)
		}
	}
	for name, want := range map[string][]entry{
		"rootfs-diff.tar":       layer,
		"devshm-checkpoint.tar": {{Kind: tar.TypeDir, Name: "./"}, {Kind: tar.TypeReg, Name: "segment", Size: 6, Content: "shared"}},
		"volumes/data.tar": {{Kind: tar.TypeReg, Name: "sparse", Size: 100000,
			Content: strings.Repeat("\x00", 5) + "island" + strings.Repeat("\x00", 99988) + "s"}},
	} {
		if diff := cmp.Diff(want, untar(t, content[name])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	other := untar(t, export(t, files, "side")) // which has neither log nor root file system
	if i := slices.IndexFunc(other, func(e entry) bool { return e.Content == "inventory of the other" }); i < 0 {
		t.Error("the archive of the other container has not its images")
	}
}

// TestCheckpointctlsLibrary reads an archive with it.
func TestCheckpointctlsLibrary(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, e := range untar(t, export(t, captured(t, nil), "app")) {
		if filepath.Dir(e.Name) != "." || e.Kind == tar.TypeDir {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name), []byte(e.Content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, _, err := metadata.ReadContainerCheckpointConfigDump(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&metadata.ContainerConfig{
		ID: "0123456789abcdef", Name: "app", RootfsImage: "registry.test/app:1", RootfsImageName: "registry.test/app:1",
		OCIRuntime: "transparent-checkpoint", CheckpointedAt: began.Add(time.Second),
	}, config); diff != "" {
		t.Errorf("config.dump (-want +got):\n%s", diff)
	}
	spec, _, err := metadata.ReadContainerCheckpointSpecDump(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&specs.Spec{
		Version: specs.Version,
		Annotations: map[string]string{
			"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "app",
			"io.kubernetes.cri.image-name": "registry.test/app:1", "io.kubernetes.cri.sandbox-name": "web-0",
			"io.kubernetes.cri.sandbox-namespace": "shop", "io.kubernetes.cri.sandbox-uid": "the-uid",
		},
		Process: &specs.Process{
			User: specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7}}, NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}},
		},
		Root:   &specs.Root{Readonly: true},
		Mounts: []specs.Mount{{Destination: "/data", Type: "bind", Options: []string{"ro"}}, {Destination: "/etc/hosts", Type: "bind"}},
		Linux:  &specs.Linux{MaskedPaths: []string{"/proc/kcore"}},
	}, spec); diff != "" {
		t.Errorf("spec.dump (-want +got):\n%s", diff)
	}
}

// TestFromABucket exports what was uploaded, and gets the same.
func TestFromABucket(t *testing.T) {
	t.Parallel()
	files := captured(t, nil)
	store, err := filesystem.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	folder := &image.Folder{Store: store, Name: "checkpoints/shop/web"}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "copy"), files); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"log/app/dump.log", "log/app/stats-dump", "containers/app/criu/inventory.img", "containers/app/criu/pages-1.img"} {
		if err := os.Chtimes(filepath.Join(dir, "copy", name), aDay, aDay); err != nil {
			t.Fatal(err)
		}
	}
	summary, err := folder.Upload(t.Context(), "checkpoint", filepath.Join(dir, "copy"), image.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := folder.Open(t.Context(), image.Checkpoint{Name: "checkpoint", Digest: summary.ManifestDigest})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(export(t, files, "app"), export(t, opened.Files(t.Context()), "app")) {
		t.Error("the archive from the bucket is not that from the folder")
	}
}

func TestWhatCannotBeExported(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*capture.Capture)
		want   string
	}{
		"a capture that failed":         {func(c *capture.Capture) { c.State = capture.Failed }, `capture.json: state is "failed"; it may be "complete"`},
		"a container of another":        {func(c *capture.Capture) { c.Containers[0].Name = "other" }, `container is "app"; it may be one of ["other" "side"]`},
		"a volume that is not there":    {func(c *capture.Capture) { c.Volumes = []string{"none"} }, `volumes/none.tar`},
		"a volume that leads out of it": {func(c *capture.Capture) { c.Volumes = []string{"../../x"} }, `invalid argument`},
	} {
		t.Run(name, func(t *testing.T) {
			pod, err := Open(captured(t, test.change))
			if err == nil {
				err = pod.Write(io.Discard, "app")
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("have the error %v, want one with %q", err, test.want)
			}
		})
	}
	renamed := tarOf(t, entry{Kind: tar.TypeDir, Name: "new/", Records: map[string]string{redirectRecord: "old"}})
	if err := convert(io.Discard, bytes.NewReader(renamed), asLayer, true); err == nil || !strings.Contains(err.Error(), `"new/": the folder was renamed`) {
		t.Errorf("a folder that was renamed: have the error %v", err)
	}
	if _, err := Open(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: have the error %v, want %v", err, fs.ErrNotExist)
	}
}
