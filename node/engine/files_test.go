package engine

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// bindMount mounts a folder or a file at another for the time of a test.
func bindMount(t *testing.T, source, at string) {
	t.Helper()
	if err := unix.Mount(source, at, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mount %s: %v", at, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// volumes is a container whose root is this machine's, with a volume of each kind.
type volumes struct {
	t      *testing.T
	root   string // where they are mounted
	nodes  string // and where they come from
	mounts []specs.Mount
	user   specs.User
	member member
}

func newVolumes(t *testing.T) *volumes {
	needsRoot(t)
	base := openDir(t)
	v := &volumes{t: t, root: filepath.Join(base, "root"), nodes: filepath.Join(base, "node"), user: specs.User{UID: 1000, GID: 1000}}
	v.member = member{pid: os.Getpid(), Container: &Container{
		Name: "app", Bundle: filepath.Join(base, "bundle"), Volumes: map[string]string{}, Own: map[string]string{}, Pod: capture.Pod{UID: uidOfPod},
	}}
	return v
}

// add mounts one, and returns where it comes from and where it is.
func (v *volumes) add(name string, options ...string) (source, at string) {
	v.t.Helper()
	source, at = filepath.Join(v.nodes, name), filepath.Join(v.root, name)
	if err := errors.Join(os.MkdirAll(source, 0o755), os.MkdirAll(at, 0o755), os.Chown(source, 1000, 1000)); err != nil {
		v.t.Fatal(err)
	}
	bindMount(v.t, source, at)
	v.mounts = append(v.mounts, specs.Mount{Destination: at, Type: "bind", Source: source, Options: append([]string{"rbind"}, options...)})
	return source, at
}

func (v *volumes) spec() *specs.Spec {
	return &specs.Spec{Mounts: v.mounts, Process: &specs.Process{User: v.user, Capabilities: &specs.LinuxCapabilities{}}}
}

// capture captures files of it into a folder, and returns what the record says.
func (v *volumes) capture(e *Engine, paths ...string) (dir string, files []capture.Files) {
	v.t.Helper()
	text, err := json.Marshal(v.spec())
	if err != nil {
		v.t.Fatal(err)
	}
	write(v.t, filepath.Join(v.member.Bundle, "config.json"), string(text))
	v.member.Settings.OfContainers = map[string]capture.ContainerSettings{"app": {Files: paths}}
	a := &attempt{engine: e, dir: v.t.TempDir()}
	a.record.Containers = []capture.Container{{Name: "app"}}
	if err := os.MkdirAll(filepath.Join(a.dir, "containers/app"), 0o700); err != nil {
		v.t.Fatal(err)
	}
	if err := a.copyFurther(v.t.Context(), v.member); err != nil {
		v.t.Fatal(err)
	}
	return a.dir, a.record.Containers[0].Files
}

// fillIn makes files of the container's user.
func fillIn(t *testing.T, content string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o640), os.Chown(path, 1000, 1000), os.Chown(filepath.Dir(path), 1000, 1000)); err != nil {
			t.Fatal(err)
		}
	}
}

func namesInArchive(t *testing.T, path string) (names []string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for archive := tar.NewReader(file); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestFurtherFilesAreThoseOfVolumes(t *testing.T) {
	v := newVolumes(t)
	data, at := v.add("data")
	_, readOnly := v.add("read-only", "ro")
	_, own := v.add("own")
	scratch, emptyDir := v.add("scratch")
	v.member.Own[own], v.member.Volumes["scratch"] = "somewhere", scratch
	fillIn(t, "x", filepath.Join(data, "one"), filepath.Join(data, "two"), filepath.Join(data, "folder/a"), filepath.Join(data, "folder/deep/b"))
	fillIn(t, "x", filepath.Join(v.root, "plain"), filepath.Join(v.nodes, "single"))
	err := errors.Join(
		os.WriteFile(filepath.Join(data, "root's"), nil, 0o600), os.Symlink("/etc/shadow", filepath.Join(data, "away")),
		os.Symlink(filepath.Join(at, "folder"), filepath.Join(v.root, "by-link")), unix.Mkfifo(filepath.Join(data, "folder/pipe"), 0o600),
		os.Mkdir(filepath.Join(data, "secret"), 0o755), os.WriteFile(filepath.Join(data, "secret/key"), nil, 0o600),
		unix.Mknod(filepath.Join(data, "folder/kvm"), unix.S_IFCHR|0o666, int(unix.Mkdev(10, 232))),
		os.WriteFile(filepath.Join(data, "file-mount"), nil, 0o644),
		os.Mkdir(filepath.Join(data, "folder/nested"), 0o755), os.Chown(filepath.Join(data, "folder/pipe"), 1000, 1000),
	)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(data, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	fillIn(t, "x", filepath.Join(v.nodes, "other/in-nested"))
	bindMount(t, filepath.Join(v.nodes, "other"), filepath.Join(at, "folder/nested"))
	single := filepath.Join(at, "file-mount")
	bindMount(t, filepath.Join(v.nodes, "single"), single)
	v.mounts = append(v.mounts, specs.Mount{Destination: single, Type: "bind", Source: filepath.Join(v.nodes, "single"), Options: []string{"bind"}})
	in := func(name string) string { return filepath.Join(at, name) }
	for what, test := range map[string]struct {
		paths []string
		want  []capture.Files
		has   []string // the first archive
		says  string
	}{
		"files of one folder": {
			[]string{in("two"), in("one"), in("two")}, []capture.Files{{Folder: at, Names: []string{"two", "one"}}}, []string{"one", "two"}, "",
		},
		"a folder":               {[]string{in("folder")}, []capture.Files{{Folder: in("folder")}}, []string{"./", "a", "deep/", "deep/b", "pipe"}, ""},
		"a file within a folder": {[]string{in("folder/deep/b"), in("folder")}, []capture.Files{{Folder: in("folder")}}, nil, ""},
		"by a link":              {[]string{filepath.Join(v.root, "by-link/a")}, []capture.Files{{Folder: in("folder"), Names: []string{"a"}}}, []string{"a"}, ""},
		"not there":              {[]string{in("nowhere")}, nil, nil, "no such file"},
		"outside by a link":      {[]string{in("away")}, nil, nil, "it lies in no volume"},
		"not the user's":         {[]string{in("root's")}, nil, nil, "permission denied"},
		"in it not the user's":   {[]string{in("secret"), in("one")}, []capture.Files{{Folder: at, Names: []string{"one"}}}, []string{"one"}, "permission denied"},
		"a socket":               {[]string{in("socket")}, nil, nil, "a device or a socket"},
		"a file that is mounted": {[]string{single}, nil, nil, "the file itself is mounted"},
		"read-only":              {[]string{readOnly}, nil, nil, "is mounted read-only"},
		"of the pod's own":       {[]string{own}, nil, nil, "each pod has it of its own"},
		"an emptyDir":            {[]string{emptyDir}, nil, nil, "captured anyway"},
		"on the root":            {[]string{filepath.Join(v.root, "plain")}, nil, nil, "captured anyway"},
		"what the kernel shows":  {[]string{"/proc/1/root/etc"}, nil, nil, "left out"},
	} {
		t.Run(what, func(t *testing.T) {
			e, log := collecting(t)
			dir, got := v.capture(e, test.paths...)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if said := strings.Join(*log, "\n"); (test.says == "") != (said == "") || !strings.Contains(said, test.says) {
				t.Errorf("it says %q", said)
			}
			if test.has != nil {
				if diff := cmp.Diff(test.has, namesInArchive(t, filepath.Join(dir, filesArchive("app", 0)))); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			}
			archives, err := filepath.Glob(filepath.Join(dir, "containers/app/*"))
			if err != nil || len(archives) != len(test.want) {
				t.Errorf("there are %q, %v", archives, err)
			}
			if size, err := e.furtherSize(v.member); err != nil || (size == 0) != (len(test.want) == 0) {
				t.Errorf("it takes %d bytes, %v", size, err)
			}
		})
	}
}

// returning is the restore of captured files into the volumes.
func (v *volumes) returning(e *Engine, dir string) *restoration {
	v.t.Helper()
	write(v.t, e.Node.ResultFile(uidOfPod, "app"), "{}")
	return &restoration{engine: e, spec: v.spec(), RestoreOptions: RestoreOptions{Container: v.member.Container, Directory: dir}}
}

func recordOfFiles(files []capture.Files) *capture.Capture {
	return &capture.Capture{Containers: []capture.Container{{Name: "other"}, {Name: "app", Files: files}}}
}

func TestFurtherFilesComeBackOrNothingHasHappened(t *testing.T) {
	v := newVolumes(t)
	data, at := v.add("data")
	fillIn(t, "captured", filepath.Join(data, "file"), filepath.Join(data, "folder/a"), filepath.Join(data, "gone/deep/b"))
	if err := errors.Join(os.Chmod(filepath.Join(data, "gone/deep"), 0o710), os.Chown(filepath.Join(data, "gone"), 1000, 1000)); err != nil {
		t.Fatal(err)
	}
	e := quiet(t)
	dir, files := v.capture(e, filepath.Join(at, "file"), filepath.Join(at, "folder"), filepath.Join(at, "gone/deep"))
	captured := describe(t, data)
	fillIn(t, "later", filepath.Join(data, "file"), filepath.Join(data, "folder/a"), filepath.Join(data, "folder/new"), filepath.Join(data, "beside"))
	if err := os.RemoveAll(filepath.Join(data, "gone")); err != nil {
		t.Fatal(err)
	}
	before := withoutTimes(describe(t, data))

	r := v.returning(e, dir)
	if err := r.files(t.Context(), recordOfFiles(files)); err != nil {
		t.Fatal(err)
	}
	if err := r.undo(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, withoutTimes(describe(t, data))); diff != "" {
		t.Errorf("undone (-want +got)\n%s", diff)
	}
	if err := r.files(t.Context(), recordOfFiles(files)); err != nil {
		t.Fatal(err)
	}
	if err := e.leaveIn(uidOfPod, "app"); err != nil {
		t.Fatal(err)
	}
	want, got := withoutTimes(captured), withoutTimes(describe(t, data))
	want["beside"] = got["beside"]
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got)\n%s", diff)
	}
	if _, err := os.Stat(returnedFile(e.Node, uidOfPod, "app")); !os.IsNotExist(err) {
		t.Errorf("the note is there still: %v", err)
	}
}

// withoutTimes leaves out the times of folders, which change with what is moved through them.
func withoutTimes(files map[string]string) map[string]string {
	for name, text := range files {
		if strings.HasPrefix(text, "d") && strings.Count(text, " ") > 2 {
			files[name] = text[:strings.LastIndexByte(text, ' ')]
		}
	}
	return files
}

// Whoever finds a restore that was killed at any step takes out what it had put in.
func TestFurtherFilesOfARestoreThatWasCutOffAreTakenOut(t *testing.T) {
	v := newVolumes(t)
	data, at := v.add("data")
	fillIn(t, "captured", filepath.Join(data, "file"), filepath.Join(data, "folder/a"), filepath.Join(data, "folder/b"), filepath.Join(data, "gone/c"))
	e := quiet(t)
	dir, files := v.capture(e, filepath.Join(at, "file"), filepath.Join(at, "folder"), filepath.Join(at, "gone"))
	fillIn(t, "later", filepath.Join(data, "file"), filepath.Join(data, "folder/a"))
	if err := os.RemoveAll(filepath.Join(data, "gone")); err != nil {
		t.Fatal(err)
	}
	before := withoutTimes(describe(t, data))
	for _, n := range []int{0, 1, 2} { // of the archives, one is damaged: what comes before it is in its place
		damaged := t.TempDir()
		if err := os.CopyFS(damaged, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(damaged, filesArchive("app", n)), 530); err != nil {
			t.Fatal(err)
		}
		r := v.returning(e, damaged)
		if err := r.files(t.Context(), recordOfFiles(files)); err == nil {
			t.Fatalf("archive %d is damaged, and is put back", n)
		}
		if err := e.takeOut(uidOfPod, "app"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, withoutTimes(describe(t, data))); diff != "" {
			t.Errorf("archive %d (-want +got)\n%s", n, diff)
		}
	}
}

func TestFurtherFilesGoOnlyWhereTheContainerMayWrite(t *testing.T) {
	for what, test := range map[string]struct {
		change func(v *volumes, data string) error
		want   string
	}{
		"a mount that is read-only now": {func(v *volumes, _ string) error {
			v.mounts[0].Options = []string{"rbind", "ro"}
			return nil
		}, "is mounted read-only"},
		"a mount that is gone": {func(v *volumes, _ string) error {
			v.mounts = nil
			return nil
		}, "has no volume there"},
		"a folder that is somebody else's": {func(_ *volumes, data string) error {
			return errors.Join(os.Chown(filepath.Join(data, "folder"), 0, 0), os.Chmod(filepath.Join(data, "folder"), 0o755))
		}, "permission denied"},
		"another user": {func(v *volumes, _ string) error {
			v.user = specs.User{UID: 4000, GID: 4000}
			return nil
		}, "permission denied"},
		"a link to elsewhere": {func(_ *volumes, data string) error {
			return errors.Join(os.RemoveAll(filepath.Join(data, "folder")), os.Symlink("/tmp", filepath.Join(data, "folder")))
		}, "too many levels of symbolic links"},
		"a folder of another file system": {func(v *volumes, data string) error {
			bindMount(v.t, v.t.TempDir(), filepath.Join(data, "folder"))
			return nil
		}, "invalid cross-device link"},
	} {
		t.Run(what, func(t *testing.T) {
			v := newVolumes(t)
			data, at := v.add("data")
			fillIn(t, "captured", filepath.Join(data, "folder/a"))
			e := quiet(t)
			dir, files := v.capture(e, filepath.Join(at, "folder"))
			if err := test.change(v, data); err != nil {
				t.Fatal(err)
			}
			before := withoutTimes(describe(t, data))
			r := v.returning(e, dir)
			err := r.files(context.Background(), recordOfFiles(files))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "files of "+filepath.Join(at, "folder")) {
				t.Errorf("it says %v", err)
			}
			if err := r.undo(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, withoutTimes(describe(t, data))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// An archive brings nothing that the container could not have made.
func TestAnArchiveGivesNoRights(t *testing.T) {
	v := newVolumes(t)
	data, at := v.add("data")
	fillIn(t, "captured", filepath.Join(data, "folder/a"))
	e := quiet(t)
	for what, header := range map[string]tar.Header{
		"a program of root's": {Name: "suid", Typeflag: tar.TypeReg, Mode: 0o4755},
		"a capability": {Name: "capable", Typeflag: tar.TypeReg, Mode: 0o755, Uid: 1000, Gid: 1000, PAXRecords: map[string]string{
			xattrPrefix + "security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		}},
		"a device":           {Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Uid: 1000, Gid: 1000},
		"a name that climbs": {Name: "../up", Typeflag: tar.TypeReg, Mode: 0o644, Uid: 1000, Gid: 1000},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, filesArchive("app", 0)), "")
			file, err := os.Create(filepath.Join(dir, filesArchive("app", 0)))
			if err != nil {
				t.Fatal(err)
			}
			archive := tar.NewWriter(file)
			if err := errors.Join(archive.WriteHeader(&header), archive.Close(), file.Close()); err != nil {
				t.Fatal(err)
			}
			before := withoutTimes(describe(t, data))
			r := v.returning(e, dir)
			if err := r.files(t.Context(), recordOfFiles([]capture.Files{{Folder: filepath.Join(at, "folder")}})); err == nil {
				t.Error("it is put back")
			}
			if err := r.undo(); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, withoutTimes(describe(t, data))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	r := v.returning(e, t.TempDir())
	for _, name := range slices.Concat(ownFolders, []string{"..", ".", "a/b"}) {
		err := r.files(t.Context(), recordOfFiles([]capture.Files{{Folder: at, Names: []string{name}}}))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("a file has the name %q", name)) {
			t.Errorf("%q: it says %v", name, err)
		}
	}
}
