package debian

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// CRIUVersion is the package that the bundle is made from, and criuSuite the release that has it. The 4.1.1 of the stable release cannot
// dump a TCP connection on kernels from 6.16 on: they refuse two socket options that it insists on reading.
const (
	CRIUVersion = "4.2.1-1"
	criuSuite   = "forky"
)

// layout is where Debian has the loader of programs, and the libraries that it finds.
type layout struct{ loader, libraries string }

var layouts = map[string]layout{
	"amd64": {loader: "ld-linux-x86-64.so.2", libraries: "usr/lib/x86_64-linux-gnu"},
	"arm64": {loader: "ld-linux-aarch64.so.1", libraries: "usr/lib/aarch64-linux-gnu"},
}

// CRIU makes a folder with criu of an architecture, as Go and Debian name it, and every library that it needs, its loader included, so that it
// runs on any machine. The loader's path must be absolute in the program: home is where the folder will stand.
func (c Cache) CRIU(ctx context.Context, architecture, dir, home string) error {
	return inStead(dir, func(partial string) (string, error) {
		from, err := c.unpack(ctx, filepath.Join(partial, "unpacked"), architecture, "criu="+CRIUVersion)
		if err != nil {
			return "", err
		}
		bundle := filepath.Join(partial, "criu")
		return bundle, from.criu(ctx, bundle, home)
	})
}

// ForImages makes a folder with what the operator's images have of Debian: criu/, as CRIU makes it, ca-certificates.crt, the authorities that
// Debian trusts, and packages.json, the list of the Packages that all this was taken from.
func (c Cache) ForImages(ctx context.Context, architecture, dir, home string) error {
	return inStead(dir, func(partial string) (string, error) {
		from, err := c.unpack(ctx, filepath.Join(partial, "unpacked"), architecture, "criu="+CRIUVersion, "ca-certificates")
		if err != nil {
			return "", err
		}
		made := filepath.Join(partial, "made")
		if err := from.criu(ctx, filepath.Join(made, "criu"), home); err != nil {
			return "", err
		}
		if err := from.certificates(filepath.Join(made, "ca-certificates.crt")); err != nil {
			return "", err
		}
		list, err := json.MarshalIndent(from.taken(), "", "  ")
		if err != nil {
			return "", err
		}
		return made, os.WriteFile(filepath.Join(made, "packages.json"), append(list, '\n'), 0o644)
	})
}

// inStead puts the folder that work makes in the place of dir. Half a folder never stands there.
func inStead(dir string, work func(partial string) (made string, err error)) error {
	partial := dir + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(partial, 0o755)); err != nil {
		return err
	}
	made, err := work(partial)
	if err != nil {
		return err
	}
	return errors.Join(os.Rename(made, dir), os.RemoveAll(partial))
}

// criu fills bundle. The old kind of rpath is forced, as only that one also holds for the libraries of the libraries. patchelf changes
// programs of any architecture.
func (u *unpacked) criu(ctx context.Context, bundle, home string) error {
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		return err
	}
	program := filepath.Join(bundle, "criu")
	if err := u.copy("usr/sbin/criu", program); err != nil {
		return err
	}
	if err := u.copyLibraries(bundle); err != nil {
		return err
	}
	return run(ctx, "patchelf", "--set-interpreter", home+"/"+u.layout.loader, "--force-rpath", "--set-rpath", home, program)
}

// copyLibraries copies the loader and, library by library, what the program in bundle needs.
func (u *unpacked) copyLibraries(bundle string) error {
	needed, err := importsOf(filepath.Join(bundle, "criu"))
	if err != nil {
		return err
	}
	needed = append(needed, u.layout.loader)
	for len(needed) > 0 {
		name := needed[0]
		needed = needed[1:]
		target := filepath.Join(bundle, name)
		if _, err := os.Stat(target); err == nil {
			continue
		}
		if err := u.copy(filepath.Join(u.layout.libraries, name), target); err != nil {
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

// certificates writes all authorities into one file, as update-ca-certificates does on a machine where nobody chose among them.
func (u *unpacked) certificates(target string) error {
	const folder = "usr/share/ca-certificates/mozilla"
	entries, err := os.ReadDir(filepath.Join(u.tree, folder)) // in the order of their names
	if err != nil {
		return err
	}
	var all []byte
	for _, entry := range entries {
		data, err := u.read(filepath.Join(folder, entry.Name()), filepath.Base(target))
		if err != nil {
			return err
		}
		all = slices.Concat(all, data)
		if len(data) > 0 && data[len(data)-1] != '\n' {
			all = append(all, '\n')
		}
	}
	return os.WriteFile(target, all, 0o644)
}
