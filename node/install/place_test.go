package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/internal/criu"
)

// imageOf makes a folder as the agent's image has it.
func imageOf(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range map[string]string{
		"bin/checkpoint-runtime": "runtime " + version, "lib/shared-ipc.so": "library",
		"criu/criu": "criu of " + criu.BuiltHome + "/ld-linux.so", "criu/libc.so.6": "libc",
	} {
		write(t, filepath.Join(dir, path), content)
	}
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func TestProgramsArePlacedInVersions(t *testing.T) {
	root := t.TempDir()
	p := placement{from: imageOf(t, "1"), root: root, home: "/opt/checkpoint"}
	home := filepath.Join(root, p.home)
	write(t, filepath.Join(home, "criu/of-an-agent-before"), "old")
	write(t, filepath.Join(home, "bin/checkpoint-runtime"), "of an agent without versions")
	if _, err := p.place([]string{"nvidia"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/checkpoint-runtime", "bin/checkpoint-runtime-nvidia"} {
		if got := read(t, filepath.Join(home, name)); got != "runtime 1" {
			t.Errorf("%s is %q", name, got)
		}
	}
	first, err := os.Readlink(filepath.Join(home, current))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, filepath.Join(home, "criu/criu")), "criu of "+filepath.Join(p.home, first, "criu")+"/"; !strings.HasPrefix(got, want) {
		t.Errorf("CRIU looks for its loader at %q, want %q", got, want)
	}
	if _, err := os.Lstat(filepath.Join(home, "criu/of-an-agent-before")); err == nil {
		t.Error("a library that nobody needs is still there")
	}
	if again, err := p.place([]string{"nvidia"}); err != nil || len(again) > 0 {
		t.Errorf("the second time it wrote %v, %v", again, err)
	}

	running, err := os.Open(filepath.Join(home, "bin/checkpoint-runtime"))
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	p.from = imageOf(t, "2")
	if _, err := p.place(nil); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(home, "bin/checkpoint-runtime")); got != "runtime 2" {
		t.Errorf("after an upgrade it is %q", got)
	}
	if _, err := os.Lstat(filepath.Join(home, "bin/checkpoint-runtime-nvidia")); err == nil {
		t.Error("the program of a handler that is gone is still there")
	}
	if err := p.sweep(func(dir string) bool { return dir == filepath.Join(p.home, first) }); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(home, first, "bin/checkpoint-runtime")); got != "runtime 1" {
		t.Errorf("the version that a process runs is %q", got)
	}
	if err := p.sweep(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(home, "versions")); err != nil || len(left) != 1 {
		t.Errorf("of the versions are left %v, %v", left, err)
	}
}

func TestWhatWasChangedIsRepaired(t *testing.T) {
	const home = "/opt/checkpoint"
	for what, test := range map[string]struct {
		change func(home string) error
		want   []string
	}{
		"a program was written to": {func(home string) error {
			return os.WriteFile(filepath.Join(home, "bin/checkpoint-runtime"), []byte("bad"), 0o755)
		},
			[]string{"versions/V/bin/checkpoint-runtime"}},
		"a library is gone": {func(home string) error {
			return os.Remove(filepath.Join(home, "versions/V/criu/libc.so.6"))
		}, []string{"versions/V/criu/libc.so.6"}},
		"a program cannot be run": {func(home string) error {
			return os.Chmod(filepath.Join(home, "versions/V/criu/criu"), 0o644)
		}, []string{"versions/V/criu/criu"}},
		"a link is gone": {func(home string) error {
			return os.Remove(filepath.Join(home, "bin/checkpoint-runtime"))
		}, []string{"bin/checkpoint-runtime"}},
		"the link to the version is": {func(home string) error {
			return os.Remove(filepath.Join(home, "current"))
		}, []string{"current"}},
		"all of it is": {os.RemoveAll, []string{"bin/checkpoint-runtime", "criu/criu", "criu/libc.so.6", "current", "lib/shared-ipc.so"}},
	} {
		t.Run(what, func(t *testing.T) {
			p := placement{from: imageOf(t, "1"), root: t.TempDir(), home: home}
			if _, err := p.place(nil); err != nil {
				t.Fatal(err)
			}
			link, err := os.Readlink(filepath.Join(p.root, home, current))
			if err != nil {
				t.Fatal(err)
			}
			version := filepath.Base(link)
			before := read(t, filepath.Join(p.root, home, "criu/criu"))
			// The name of the version is not known beforehand: the test's V stands for it.
			if err := os.Symlink(version, filepath.Join(p.root, home, "versions/V")); err != nil {
				t.Fatal(err)
			}
			if err := test.change(filepath.Join(p.root, home)); err != nil {
				t.Fatal(err)
			}
			repaired, err := p.place(nil)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, path := range test.want {
				want = append(want, filepath.Join(home, strings.Replace(path, "/V/", "/"+version+"/", 1)))
			}
			if diff := cmp.Diff(want, repaired); diff != "" {
				t.Errorf("repaired (-want +got)\n%s", diff)
			}
			if got := read(t, filepath.Join(p.root, home, "criu/criu")); got != before {
				t.Errorf("CRIU is %q", got)
			}
			if again, err := p.place(nil); err != nil || len(again) > 0 {
				t.Errorf("and once more %v, %v", again, err)
			}
		})
	}
}

func TestACRIUThatCannotBeMoved(t *testing.T) {
	from := imageOf(t, "1")
	write(t, filepath.Join(from, "criu/criu"), "built for elsewhere")
	if _, err := (placement{from: from, root: t.TempDir(), home: "/var/lib/programs"}).place(nil); err == nil ||
		!strings.Contains(err.Error(), "cannot be moved; home is /var/lib/programs") {
		t.Errorf("it says %v", err)
	}
	if _, err := (placement{from: from, root: t.TempDir(), home: "/opt/checkpoint"}).place(nil); err != nil {
		t.Errorf("where it was built for it says %v", err)
	}
}
