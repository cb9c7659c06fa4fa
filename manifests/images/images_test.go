package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
)

var published = release{version: "v1.2.3", revision: "0123456789abcdef", created: v1.Time{Time: time.Unix(1700000000, 0).UTC()}, isPlain: true}

// parts makes what images are built from, of files that were written at a certain time. All programs are this test, which is a Go program.
func parts(t *testing.T, written time.Time) built {
	t.Helper()
	dir := t.TempDir()
	from := built{programs: filepath.Join(dir, "bin"), sharedIPC: filepath.Join(dir, "lib.so"), debian: filepath.Join(dir, "debian")}
	list, err := json.Marshal([]debianPackage{
		{Name: "ca-certificates", Version: "20250419", Architecture: "all", Source: "ca-certificates", Licences: []string{"GPL-2+", "MPL-2.0"},
			Files: []string{certificates}},
		{Name: "criu", Version: "4.2.1-1", Architecture: "arm64", Source: "criu", Licences: []string{"GPL-2", "own"}, Files: []string{"criu"}},
		{Name: "libstdc++6", Version: "1+b1", Architecture: "arm64", Source: "gcc-14 (1)", Files: []string{"libstdc++.so.6"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		from.sharedIPC: []byte("library"), filepath.Join(from.debian, certificates): []byte("authorities"),
		filepath.Join(from.debian, "criu/criu"): []byte("criu"), filepath.Join(from.debian, "criu/libc.so.6"): []byte("libc"),
		filepath.Join(from.debian, "packages.json"): list,
	}
	for path, content := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(from.programs, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		for _, p := range i.programs {
			if err := os.Symlink(executable, filepath.Join(from.programs, p.name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(path, written, written)
	})
	if err != nil {
		t.Fatal(err)
	}
	return from
}

// written writes an image for two architectures as run does, and returns the folder that it is in.
func written(t *testing.T, i image, r release, at time.Time) string {
	t.Helper()
	target, from := t.TempDir(), parts(t, at)
	var all []platformImage
	for _, architecture := range []string{"amd64", "arm64"} {
		one, err := r.make(i, architecture, from, target)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, platformImage{architecture, one})
	}
	tag, err := name.NewTag("registry.example/operator/" + i.name + ":v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write(tag, all, r.annotations(i), filepath.Join(target, i.name+".tar")); err != nil {
		t.Fatal(err)
	}
	return target
}

func TestTheSameFilesGiveTheSameBytes(t *testing.T) {
	for _, i := range images {
		r := published
		r.isPlain = i.withCRIU // of one of them the compressed form too, which takes its time
		first, second := written(t, i, r, time.Unix(1, 0)), written(t, i, r, time.Now())
		files, err := os.ReadDir(first)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != 3 {
			t.Errorf("%s: %d files were written, not an archive and two lists", i.name, len(files))
		}
		for _, file := range files {
			one, err := os.ReadFile(filepath.Join(first, file.Name()))
			if err != nil {
				t.Fatal(err)
			}
			other, err := os.ReadFile(filepath.Join(second, file.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(one, other) {
				t.Errorf("%s differs, built from the same files in another folder at another time", file.Name())
			}
		}
	}
}

func TestWhatIsInTheImages(t *testing.T) {
	const trusted = "etc/ssl/certs/ca-certificates.crt 644"
	want := map[string][]string{
		"checkpoint-manager": {"etc 755", "etc/ssl 755", "etc/ssl/certs 755", trusted, "manager 755"},
		"checkpoint-agent": {"agent 755", "etc 755", "etc/ssl 755", "etc/ssl/certs 755", trusted, "opt 755", "opt/checkpoint-image 755",
			"opt/checkpoint-image/bin 755", "opt/checkpoint-image/bin/checkpoint-runtime 755", "opt/checkpoint-image/criu 755",
			"opt/checkpoint-image/criu/criu 755", "opt/checkpoint-image/criu/libc.so.6 755", "opt/checkpoint-image/lib 755",
			"opt/checkpoint-image/lib/shared-ipc.so 755"},
	}
	for _, i := range images {
		archive := filepath.Join(written(t, i, published, time.Now()), i.name+".tar")
		one, err := tarball.ImageFromPath(archive, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[i.name], filesOf(t, mutate.Extract(one))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", i.name, diff)
		}
		config, err := one.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		user := map[string]string{"checkpoint-manager": "65532:65532", "checkpoint-agent": "0:0"}[i.name]
		if config.Config.User != user || config.Architecture != "amd64" || !config.Created.Equal(published.created.Time) {
			t.Errorf("%s is of user %q, for %s, created %v", i.name, config.Config.User, config.Architecture, config.Created)
		}
	}
}

// filesOf lists what a tar has, with permissions.
func filesOf(t *testing.T, content io.ReadCloser) []string {
	t.Helper()
	defer content.Close()
	var found []string
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(found)
			return slices.Compact(found)
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 || !header.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s belongs to %d:%d and is of %v", header.Name, header.Uid, header.Gid, header.ModTime)
		}
		found = append(found, strings.TrimSuffix(header.Name, "/")+" "+map[int64]string{0o755: "755", 0o644: "644"}[header.Mode])
	}
}

func TestTheArchiveIsALayoutOfBothArchitectures(t *testing.T) {
	i := images[0]
	archive := filepath.Join(written(t, i, published, time.Now()), i.name+".tar")
	dir := t.TempDir()
	if output, err := exec.Command("tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	top, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Manifests) != 1 || !top.Manifests[0].MediaType.IsIndex() {
		t.Fatalf("the layout has the entries %+v, not one index", top.Manifests)
	}
	if got := top.Manifests[0].Annotations["io.containerd.image.name"]; got != "registry.example/operator/checkpoint-manager:v1.2.3" {
		t.Errorf("containerd would call it %q", got)
	}
	inner, err := index.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, described := range manifest.Manifests {
		platforms = append(platforms, described.Platform.String())
		one, err := inner.Image(described.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := one.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(manifest.Annotations, config.Config.Labels); diff != "" {
			t.Errorf("the labels of %v are not the annotations of the index (-annotations +labels)\n%s", described.Platform, diff)
		}
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	want := map[string]string{
		"org.opencontainers.image.title": "Transparent Checkpoint Operator: manager", "org.opencontainers.image.version": "v1.2.3",
		"org.opencontainers.image.revision": "0123456789abcdef", "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
		"org.opencontainers.image.source": source, "org.opencontainers.image.licenses": "Apache-2.0",
	}
	if diff := cmp.Diff(want, manifest.Annotations); diff != "" {
		t.Errorf("annotations (-want +got)\n%s", diff)
	}
}

func TestTheListHasEveryModule(t *testing.T) {
	i := images[1]
	data, err := os.ReadFile(filepath.Join(written(t, i, published, time.Now()), i.name+"-arm64.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := spdxjson.Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	urls, known := map[string]string{}, map[common.ElementID]bool{"DOCUMENT": true}
	for _, p := range document.Packages {
		if known[p.PackageSPDXIdentifier] || !regexp.MustCompile(`^[a-zA-Z0-9.-]+$`).MatchString(string(p.PackageSPDXIdentifier)) {
			t.Errorf("the identifier %q is there twice, or has letters that it may not have", p.PackageSPDXIdentifier)
		}
		known[p.PackageSPDXIdentifier] = true
		if p.PackageDownloadLocation == "" || p.PackageLicenseDeclared == "" || p.FilesAnalyzed || len(p.PackageExternalReferences) != 1 {
			t.Errorf("%s lacks something: %+v", p.PackageName, p)
			continue
		}
		urls[p.PackageExternalReferences[0].Locator] = p.PackageLicenseDeclared
	}
	for _, r := range document.Relationships {
		if !known[r.RefA.ElementRefID] || !known[r.RefB.ElementRefID] {
			t.Errorf("%v %s %v speaks of what is not there", r.RefA, r.Relationship, r.RefB)
		}
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own, err := buildinfo.ReadFile(executable)
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command("go", "version", "-m", executable).Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(string(output), -1)
	if len(modules) < 5 {
		t.Fatalf("this test has %d modules", len(modules))
	}
	want := []string{
		"pkg:golang/stdlib@" + strings.TrimPrefix(runtime.Version(), "go"), "pkg:deb/debian/criu@4.2.1-1?arch=arm64&distro=forky",
		"pkg:golang/github.com/transparent-checkpoint/operator@v1.2.3#" + strings.TrimPrefix(own.Path, own.Main.Path+"/"),
		"pkg:deb/debian/ca-certificates@20250419?arch=all&distro=forky",
	}
	for _, module := range modules {
		want = append(want, "pkg:golang/"+strings.ToLower(module[1])+"@"+strings.ReplaceAll(module[2], "+", "%2B"))
	}
	for _, url := range want {
		if _, found := urls[url]; !found {
			t.Errorf("%s is not on the list", url)
		}
	}
	if got := len(urls); got != len(want)+1 { // the image itself; libstdc++6 has no file in it
		t.Errorf("the list has %d packages, not %d: %v", got, len(want)+1, urls)
	}
	if got := urls[want[3]]; got != "GPL-2.0-or-later AND MPL-2.0" {
		t.Errorf("the licence of ca-certificates is %q", got)
	}
	if got := urls[want[1]]; got != unknown {
		t.Errorf("the licence of criu is %q, though SPDX has no name for a part of it", got)
	}
}

func TestWhatCannotBeBuiltIsNamed(t *testing.T) {
	for what, test := range map[string]struct{ platform, want string }{
		"another system":       {"windows/amd64", `platform is "windows/amd64"; it may be linux/amd64, linux/arm64`},
		"another architecture": {"linux/s390x", `architecture is "s390x"; it may be amd64, arm64`},
	} {
		err := run(t.Context(), release{}, []string{test.platform}, t.TempDir(), "localhost", "dev")
		if err == nil || err.Error() != test.want {
			t.Errorf("%s: the error is %v, not %s", what, err, test.want)
		}
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	if err := checkStatic(executable, other); err == nil {
		t.Errorf("a program for %s passes as one for %s", runtime.GOARCH, other)
	}
}

func TestTheTimeIsThatOfTheSource(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	r := release{version: "v9"}
	if err := r.describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.version != "v9" || !r.created.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("the release is %+v", r)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if err := r.describe(t.Context()); err == nil {
		t.Error("yesterday is a time")
	}
}
