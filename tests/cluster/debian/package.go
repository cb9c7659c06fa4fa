package debian

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Package is one of Debian's from which files were taken.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"` // all, where it is the same for every one
	// Source is what it was built from, with the version where that is another: "glibc", "gcc-14 (14.2.0-19)".
	Source string `json:"source"`
	// Licences are the names that its file debian/copyright uses, as "GPL-2+", in order; none where that cannot be read by a program.
	Licences []string `json:"licences,omitempty"`
	// Files are the names of what was taken, in order.
	Files []string `json:"files"`
}

// unpacked is a tree of packages of one architecture, none of which was installed.
type unpacked struct {
	tree   string
	layout layout
	owners map[string]*Package // by the path of a file in the tree
}

// unpack fetches packages of CRIU's suite and all that they depend on, and unpacks them.
func (c Cache) unpack(ctx context.Context, dir, architecture string, names ...string) (*unpacked, error) {
	place, found := layouts[architecture]
	if !found {
		return nil, fmt.Errorf("architecture is %q; it may be %s", architecture, strings.Join(slices.Sorted(maps.Keys(layouts)), ", "))
	}
	u := &unpacked{tree: filepath.Join(dir, "tree"), layout: place, owners: map[string]*Package{}}
	if err := os.MkdirAll(u.tree, 0o755); err != nil {
		return nil, err
	}
	archives, err := c.download(ctx, filepath.Join(dir, "apt"), architecture, names)
	if err != nil {
		return nil, err
	}
	for _, archive := range archives {
		if err := u.add(ctx, archive); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// add unpacks an archive and notes what it brings.
func (u *unpacked) add(ctx context.Context, archive string) error {
	fields, err := exec.CommandContext(ctx, "dpkg-deb", "--show", "--showformat=${Package}\n${Version}\n${Architecture}\n${Source}\n", archive).Output()
	if err != nil {
		return fmt.Errorf("dpkg-deb --show %s: %w", filepath.Base(archive), err)
	}
	lines := strings.Split(string(fields), "\n")
	if len(lines) < 4 {
		return fmt.Errorf("%s has %d fields, not 4", filepath.Base(archive), len(lines))
	}
	owner := &Package{Name: lines[0], Version: lines[1], Architecture: lines[2], Source: lines[3]}
	if owner.Source == "" {
		owner.Source = owner.Name
	}
	paths, err := exec.CommandContext(ctx, "dpkg-deb", "--vextract", archive, u.tree).Output()
	if err != nil {
		return fmt.Errorf("dpkg-deb --vextract %s: %w", filepath.Base(archive), err)
	}
	for path := range strings.Lines(string(paths)) {
		u.owners[filepath.Clean(strings.TrimSpace(path))] = owner
	}
	return nil
}

// download fetches packages of CRIU's suite and all that they depend on, for a machine that has nothing installed.
func (c Cache) download(ctx context.Context, dir, architecture string, names []string) ([]string, error) {
	mirror, err := mirror(ctx)
	if err != nil {
		return nil, err
	}
	for _, path := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			return nil, err
		}
	}
	settings := map[string]string{
		"APT::Architecture": architecture, "Dir::Etc::sourcelist": filepath.Join(dir, "sources.list"), "Dir::Etc::sourceparts": "/dev/null",
		"Dir::State::lists": filepath.Join(dir, "lists"), "Dir::State::status": filepath.Join(dir, "status"), "Dir::Cache": filepath.Join(dir, "cache"),
	}
	text := fmt.Sprintf("APT::Architectures { %q; };\n", architecture)
	for name, value := range settings {
		text += fmt.Sprintf("%s %q;\n", name, value)
	}
	files := map[string]string{
		"status":       "",
		"sources.list": fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, mirror, criuSuite),
		"apt.conf":     text,
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	install := append([]string{"install", "--download-only", "--no-install-recommends", "-y"}, names...)
	for _, args := range [][]string{{"update"}, install} {
		command := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
		command.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(dir, "apt.conf"))
		if output, err := command.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("apt-get %s: %w:\n%s", args[0], err, tail(output))
		}
	}
	return filepath.Glob(filepath.Join(dir, "cache/archives/*.deb"))
}

// copy takes a file of the tree as an executable one.
func (u *unpacked) copy(path, target string) error {
	data, err := u.read(path, filepath.Base(target))
	if err != nil {
		return err
	}
	return os.WriteFile(target, data, 0o755)
}

// read takes a file of the tree for what is to be called so. It follows links within the tree, as versioned libraries have them.
func (u *unpacked) read(path, as string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(u.tree, path))
	if err != nil {
		return nil, fmt.Errorf("%s is not where its package should have it: %w", as, err)
	}
	owner := u.owners[path]
	if owner == nil {
		return nil, fmt.Errorf("%s is of no package", path)
	}
	if !slices.Contains(owner.Files, as) {
		owner.Files = append(owner.Files, as)
	}
	return data, nil
}

// taken returns the packages that something was taken from, by name.
func (u *unpacked) taken() []Package {
	found := map[string]Package{}
	for _, owner := range u.owners {
		if _, seen := found[owner.Name]; seen || len(owner.Files) == 0 {
			continue
		}
		slices.Sort(owner.Files)
		if text, err := os.ReadFile(filepath.Join(u.tree, "usr/share/doc", owner.Name, "copyright")); err == nil {
			owner.Licences = licences(string(text))
		}
		found[owner.Name] = *owner
	}
	var all []Package
	for _, name := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[name])
	}
	return all
}

// licences returns the names in a file debian/copyright of the form that programs can read; none for another form.
func licences(text string) []string {
	if !strings.HasPrefix(text, "Format:") {
		return nil
	}
	var names []string
	for line := range strings.Lines(text) {
		if name, isOne := strings.CutPrefix(line, "License:"); isOne && strings.TrimSpace(name) != "" {
			names = append(names, strings.TrimSpace(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
