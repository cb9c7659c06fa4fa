package debian

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// CRIUVersion is the package that the bundle is made from, and criuSuite the release that has it. The 4.1.1 of the stable release cannot
// dump a TCP connection on kernels from 6.16 on: they refuse two socket options that it insists on reading.
const (
	CRIUVersion = "4.2.1-1"
	criuSuite   = "forky"
)

const loader = "ld-linux-x86-64.so.2"

// CRIU makes a folder with criu and every library that it needs, its loader included, so that it runs on any machine. The loader's
// path must be absolute in the program: home is where the folder will stand. The old kind of rpath is forced, as only that one also
// holds for the libraries of the libraries.
func (c Cache) CRIU(ctx context.Context, dir, home string) error {
	partial := dir + ".partial"
	tree := filepath.Join(partial, "tree")
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(tree, 0o755), os.MkdirAll(filepath.Join(partial, "criu"), 0o755)); err != nil {
		return err
	}
	packages, err := c.download(ctx, filepath.Join(partial, "apt"), "criu="+CRIUVersion)
	if err != nil {
		return err
	}
	for _, path := range packages {
		if err := run(ctx, "dpkg-deb", "--extract", path, tree); err != nil {
			return err
		}
	}
	bundle := filepath.Join(partial, "criu")
	if err := copyProgram(filepath.Join(tree, "usr/sbin/criu"), filepath.Join(bundle, "criu")); err != nil {
		return err
	}
	if err := copyLibraries(tree, bundle); err != nil {
		return err
	}
	interpreter, program := home+"/"+loader, filepath.Join(bundle, "criu") // a home may end in slashes, see criu.BuiltHome
	if err := run(ctx, "patchelf", "--set-interpreter", interpreter, "--force-rpath", "--set-rpath", home, program); err != nil {
		return err
	}
	if err := os.Rename(bundle, dir); err != nil {
		return err
	}
	return os.RemoveAll(partial)
}

// download fetches a package of CRIU's suite and all that it depends on, for a machine that has nothing installed.
func (c Cache) download(ctx context.Context, dir, name string) ([]string, error) {
	mirror, err := mirror(ctx)
	if err != nil {
		return nil, err
	}
	for _, path := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			return nil, err
		}
	}
	files := map[string]string{
		"status":       "",
		"sources.list": fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, mirror, criuSuite),
		"apt.conf": fmt.Sprintf("Dir::Etc::sourcelist %q;\nDir::Etc::sourceparts \"/dev/null\";\nDir::State::lists %q;\nDir::State::status %q;\nDir::Cache %q;\n",
			filepath.Join(dir, "sources.list"), filepath.Join(dir, "lists"), filepath.Join(dir, "status"), filepath.Join(dir, "cache")),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	for _, args := range [][]string{{"update"}, {"install", "--download-only", "--no-install-recommends", "-y", name}} {
		command := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
		command.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(dir, "apt.conf"))
		if output, err := command.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("apt-get %s: %w:\n%s", args[0], err, tail(output))
		}
	}
	return filepath.Glob(filepath.Join(dir, "cache/archives/*.deb"))
}

// copyLibraries copies the loader and, library by library, what the program in bundle needs from a tree of extracted packages.
func copyLibraries(tree, bundle string) error {
	needed, err := importsOf(filepath.Join(bundle, "criu"))
	if err != nil {
		return err
	}
	needed = append(needed, loader)
	for len(needed) > 0 {
		name := needed[0]
		needed = needed[1:]
		target := filepath.Join(bundle, name)
		if _, err := os.Stat(target); err == nil {
			continue
		}
		if err := copyProgram(filepath.Join(tree, "usr/lib/x86_64-linux-gnu", name), target); err != nil {
			return err
		}
		more, err := importsOf(target)
		if err != nil {
			return err
		}
		needed = append(needed, more...)
	}
	return nil
}

func importsOf(path string) ([]string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer file.Close()
	return file.ImportedLibraries()
}

// copyProgram follows links within the tree that the file comes from, as versioned libraries have them.
func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("%s is not where its package should have it: %w", strings.TrimPrefix(filepath.Base(to), "./"), err)
	}
	return os.WriteFile(to, data, 0o755)
}
