package install

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/criu"
)

// current is the link in home that names the version in use. Every other link goes through it, so that all programs change at once.
const current = "current"

// placement is where the programs come from, and where they go.
type placement struct {
	// from is the folder in the agent's image, root the node's file system as it is seen from here, home the folder on the node.
	from, root, home string
}

// program is a file that is placed: its path below home, and its content there.
type program struct {
	path    string
	content []byte
}

// place puts the programs into a folder of their own version, unless they are there, and switches the links to them. A call that runs keeps the files
// that it has. It returns what was not as it has to be: paths on the node.
func (p placement) place(handlers []string) (repaired []string, err error) {
	programs, version, err := p.programs()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(p.root, p.home, capture.Versions, version)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := p.fill(dir+".new", programs); err != nil {
			return nil, err
		}
		if err := os.Rename(dir+".new", dir); err != nil {
			return nil, err
		}
	} else if repaired, err = p.repair(dir, programs); err != nil {
		return repaired, err
	}
	links := map[string]string{current: filepath.Join(capture.Versions, version)}
	for _, program := range programs {
		links[program.path] = filepath.Join("..", current, program.path)
	}
	for _, handler := range handlers {
		links[filepath.Join("bin", capture.RuntimeProgram+"-"+handler)] = capture.RuntimeProgram
	}
	for path, target := range links {
		changed, err := link(filepath.Join(p.root, p.home, path), target)
		if err != nil {
			return repaired, err
		}
		if changed {
			repaired = append(repaired, filepath.Join(p.home, path))
		}
	}
	slices.Sort(repaired)
	return repaired, p.dropLinks(links)
}

// programs reads what is to be placed, as it has to be there, and gives it a name by its content.
func (p placement) programs() (found []program, version string, err error) {
	hash := sha256.New()
	_, _ = fmt.Fprintln(hash, p.home)
	err = filepath.WalkDir(p.from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(p.from, path)
		_, _ = fmt.Fprintln(hash, name, len(content))
		_, _ = hash.Write(content)
		found = append(found, program{name, content})
		return err
	})
	if err != nil {
		return nil, "", err
	}
	version = hex.EncodeToString(hash.Sum(nil))[:16]
	if !slices.ContainsFunc(found, func(p program) bool { return p.path == "bin/"+capture.RuntimeProgram }) {
		return nil, "", fmt.Errorf("%s has no bin/%s", p.from, capture.RuntimeProgram)
	}
	for i, program := range found {
		if filepath.Dir(program.path) != "criu" {
			continue
		}
		moved, names, err := criu.Move(program.content, filepath.Join(p.home, capture.Versions, version, "criu"))
		if err == nil && !names && filepath.Base(program.path) == "criu" && p.home != capture.DefaultHome {
			err = fmt.Errorf("it was built for %s and cannot be moved; home is %s", capture.DefaultHome, p.home)
		}
		if err != nil {
			return nil, "", fmt.Errorf("CRIU: %w", err)
		}
		found[i].content = moved
	}
	return found, version, nil
}

// fill writes a new version.
func (p placement) fill(dir string, programs []program) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for _, program := range programs {
		path := filepath.Join(dir, program.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := replace(path, program.content, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// repair writes those files of a version anew that are not what they were.
func (p placement) repair(dir string, programs []program) (repaired []string, err error) {
	for _, program := range programs {
		path := filepath.Join(dir, program.path)
		has, readErr := os.ReadFile(path)
		info, statErr := os.Lstat(path)
		if readErr == nil && statErr == nil && bytes.Equal(has, program.content) && info.Mode().IsRegular() && info.Mode().Perm() == 0o755 {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return repaired, err
		}
		if err := replace(path, program.content, 0o755); err != nil {
			return repaired, err
		}
		repaired = append(repaired, strings.TrimPrefix(path, strings.TrimSuffix(p.root, "/")))
	}
	return repaired, nil
}

// dropLinks removes links, and files of an agent without versions, that are for nothing any more.
func (p placement) dropLinks(links map[string]string) error {
	for _, dir := range []string{"bin", "lib", "criu"} {
		entries, err := os.ReadDir(filepath.Join(p.root, p.home, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, entry := range entries {
			if _, wanted := links[filepath.Join(dir, entry.Name())]; wanted {
				continue
			}
			if err := os.Remove(filepath.Join(p.root, p.home, dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// sweep removes the versions that are not in use any more: those that are not current, and that no process runs or has loaded. What captures and
// containers keep in their records goes through the links.
func (p placement) sweep(inUse func(dir string) bool) error {
	newest, err := os.Readlink(filepath.Join(p.root, p.home, current))
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(p.root, p.home, capture.Versions))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		dir := filepath.Join(p.home, capture.Versions, entry.Name())
		if entry.Name() == filepath.Base(newest) || inUse(dir) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(p.root, dir)); err != nil {
			return err
		}
	}
	return nil
}

// processesUse tells whether a process of the node runs a program of a folder, or has loaded a library from there. Where that cannot be told, one does.
func processesUse(dir string) bool {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return true
	}
	for _, process := range processes {
		if program, err := os.Readlink(process + "/exe"); err == nil && strings.Contains(program, dir+"/") {
			return true
		}
		if loaded, err := os.ReadFile(process + "/maps"); err == nil && bytes.Contains(loaded, []byte(dir+"/")) {
			return true
		}
	}
	return false
}

// link makes path a symbolic link to target, in one step, and tells whether it was none.
func link(path, target string) (changed bool, err error) {
	if has, err := os.Readlink(path); err == nil && has == target {
		return false, nil
	}
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	return true, errors.Join(os.Symlink(target, temporary), os.Rename(temporary, path))
}

// replace writes a file in one step, with that mode.
func replace(path string, content []byte, mode fs.FileMode) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
