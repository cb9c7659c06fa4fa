package install

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/placed"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file of testdata, or writes that.
func golden(t *testing.T, path, got string) {
	t.Helper()
	path = filepath.Join("testdata", path)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it anew)\n%s", path, diff)
	}
}

// input reads a file of testdata; nil where there is none.
func input(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return data
}

// parse reads a configuration.
func parse(t *testing.T, text []byte) (config map[string]any) {
	t.Helper()
	if err := toml.Unmarshal(text, &config); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return config
}

// platform is a node of testdata: the folder has its main file, in.toml, what containerd makes of that, dump.toml, and for those that have one of their
// own a template, template.in.
type platform struct {
	name, main, template, home string
}

var platforms = []platform{
	{name: "containerd-v3-imports"},
	{name: "containerd-v3-no-imports"},
	{name: "containerd-v3-other-imports"},
	{name: "containerd-v2-on-2.x"},
	{name: "containerd-no-file"},
	{name: "containerd-1.7"},
	{name: "containerd-1.7-imports"},
	{name: "kind"},
	{name: "k3s-imports", main: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"},
	{name: "k3s-no-imports", main: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"},
	{name: "k3s-own-template", main: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml", template: "config-v3.toml.tmpl"},
	{name: "k3s-1.7", main: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"},
	{name: "rke2-imports", main: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"},
	{name: "rke2-no-imports", main: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"},
	{name: "rke2-1.7", main: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"},
	{name: "read-only", home: "/var/lib/checkpoint-programs"},
	{name: "nvidia"},
}

// node makes a folder with the files of such a node, and returns the layout of its containerd.
func (p *platform) node(t *testing.T) (root string, l layout) {
	t.Helper()
	if p.main == "" {
		p.main = "/etc/containerd/config.toml"
	}
	if p.home == "" {
		p.home = capture.DefaultHome
	}
	root = t.TempDir()
	l = layout{path: p.main, text: input(t, p.name+"/in.toml"), dump: parse(t, input(t, p.name+"/dump.toml"))}
	files := map[string][]byte{p.main: l.text}
	if p.template != "" {
		files[filepath.Join(filepath.Dir(p.main), p.template)] = input(t, p.name+"/template.in")
	}
	for path, text := range files {
		if text == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), text, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, p.home), 0o755); err != nil {
		t.Fatal(err)
	}
	return root, l
}

// written reads all files of a node but those of its home.
func written(t *testing.T, root, home string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasPrefix(path, filepath.Join(root, home)) {
			return err
		}
		data, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, root)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestTheHandlersGetIntoTheConfiguration shows for every kind of node what is written there; the golden files are testdata/NAME/want.txt. The second time
// nothing is written, and all of it is taken back to the last byte.
func TestTheHandlersGetIntoTheConfiguration(t *testing.T) {
	for _, p := range platforms {
		t.Run(p.name, func(t *testing.T) {
			root, l := p.node(t)
			before := written(t, root, p.home)
			handlers, err := deriveHandlers(l.dump, p.home)
			if err != nil {
				t.Fatal(err)
			}
			c := configuration{root: root, home: filepath.Join(root, p.home)}
			register := func() ([]string, bool) {
				t.Helper()
				var err error
				if l.text, err = c.without(p.main); err != nil {
					t.Fatal(err)
				}
				targets, err := register(l, handlers)
				if err != nil {
					t.Fatal(err)
				}
				changed, restart, err := c.write(targets)
				if err != nil {
					t.Fatal(err)
				}
				return changed, restart
			}
			changed, restart := register()
			if len(changed) == 0 || !restart {
				t.Fatalf("it changed %v, restart: %t", changed, restart)
			}
			var want strings.Builder
			now := written(t, root, p.home)
			slices.Sort(changed)
			for _, path := range changed {
				fmt.Fprintf(&want, "==== %s\n%s", path, now[path])
				if !strings.Contains(path, ".tmpl") {
					parse(t, []byte(now[path]))
				}
				if was, edited := before[path]; edited && now[path+backupSuffix] != was {
					t.Errorf("the backup of %s is %q", path, now[path+backupSuffix])
				}
			}
			golden(t, p.name+"/want.txt", want.String())
			if err := c.restarted(); err != nil {
				t.Fatal(err)
			}
			if again, restart := register(); len(again) > 0 || restart {
				t.Errorf("the second time it changed %v, restart: %t", again, restart)
			}
			if back, err := c.takeBack(); err != nil || !back {
				t.Errorf("taken back: %t, %v", back, err)
			}
			if diff := cmp.Diff(before, written(t, root, p.home)); diff != "" {
				t.Errorf("after it was taken back (-before +after)\n%s", diff)
			}
		})
	}
}

// TestWhatSomebodyElseWritesStays: in a main file and in a template, between the installation and its end, and when handlers change meanwhile.
func TestWhatSomebodyElseWritesStays(t *testing.T) {
	const theirs = "\n[plugins.'io.containerd.tracing.processor.v1.otlp']\n  endpoint = 'here'\n"
	for _, p := range platforms {
		t.Run(p.name, func(t *testing.T) {
			root, l := p.node(t)
			before := written(t, root, p.home)
			handlers, err := deriveHandlers(l.dump, p.home)
			if err != nil {
				t.Fatal(err)
			}
			c := configuration{root: root, home: filepath.Join(root, p.home)}
			targets, err := register(l, handlers)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.write(targets); err != nil {
				t.Fatal(err)
			}
			record, err := placed.Read(c.home)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for path, text := range before {
				want[path] = text
			}
			for _, file := range record.Files {
				if file.Own || file.Made {
					continue
				}
				path := filepath.Join(root, file.Path)
				has, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, append(has, theirs...), 0o640); err != nil {
					t.Fatal(err)
				}
				want[file.Path] = before[file.Path] + theirs
			}
			handlers[0].table["snapshotter"] = "another"
			if l.text, err = c.without(p.main); err != nil {
				t.Fatal(err)
			}
			if targets, err = register(l, handlers); err != nil {
				t.Fatal(err)
			}
			if changed, restart, err := c.write(targets); err != nil || len(changed) == 0 || !restart {
				t.Errorf("another handler: it changed %v, restart: %t, %v", changed, restart, err)
			}
			if _, err := c.takeBack(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, written(t, root, p.home)); diff != "" {
				t.Errorf("after it was taken back (-want +got)\n%s", diff)
			}
		})
	}
}

func TestAMainFileThatCannotBeChanged(t *testing.T) {
	dump := parse(t, input(t, "containerd-v3-imports/dump.toml"))
	handlers, err := deriveHandlers(dump, capture.DefaultHome)
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct{ text, err string }{
		"of version 1":                    {"[plugins.cri]\n", "the version of /etc/containerd/config.toml is 0; it may be 2 or more"},
		"whose imports are hard to read":  {"version = 3\n'imports' = ['/a']\n", "to it by hand"},
		"whose imports are in other text": {"version = 3\nroot = '''\nimports = ['''\n", "to it by hand"},
	} {
		t.Run(what, func(t *testing.T) {
			root := t.TempDir()
			l := layout{path: "/etc/containerd/config.toml", text: []byte(test.text), dump: dump}
			path := filepath.Join(root, l.path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, l.text, 0o644); err != nil {
				t.Fatal(err)
			}
			targets, err := register(l, handlers)
			if err == nil {
				_, _, err = configuration{root: root, home: root}.write(targets)
			}
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("it says %v, want %q", err, test.err)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != test.text {
				t.Errorf("it became %q, %v", now, err)
			}
		})
	}
}

func TestTheHandlersOfCRIO(t *testing.T) {
	isRunc := func(program string) bool {
		return slices.Contains([]string{"runc", "/usr/bin/runc", "/usr/bin/nvidia-container-runtime"}, program)
	}
	for _, name := range []string{"crio", "crio-crun-default", "crio-crun-only"} {
		t.Run(name, func(t *testing.T) {
			handlers, err := deriveCRIOHandlers(parse(t, input(t, name+"/in.toml")), capture.DefaultHome, isRunc)
			if name == "crio-crun-only" {
				if err == nil || !strings.Contains(err.Error(), `"crun" (crun), and it knows no other; it may be runc`) {
					t.Errorf("it says %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := renderCRIO(handlers)
			if err != nil {
				t.Fatal(err)
			}
			parse(t, text)
			golden(t, name+"/want.conf", string(text))
		})
	}
}
