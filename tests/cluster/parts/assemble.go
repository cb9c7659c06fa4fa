package parts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// placed says where on a node the programs of a module lie.
var placed = map[string]string{"containerd": "usr/local/bin", "cni": "opt/cni/bin", "runc": "usr/local/sbin"}

// nodeAliases are the names of the Kubernetes binary that a node has.
var nodeAliases = []string{"kubectl", "kubelet", "kube-proxy"}

// assemble links the parts together to a Set, which is named by all of theirs. Links cost no space, and a set stays whole when the
// parts in the cache are replaced.
func (b Builder) assemble(parts built) (Set, error) {
	all := fmt.Sprint(parts.modules, parts.base, parts.layer, parts.criu, parts.tiny)
	dir := filepath.Join(b.Cache, "sets", short(all))
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return Set(dir), err
	}
	partial := dir + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(partial, 0o755)); err != nil {
		return "", err
	}
	if err := linkTree(filepath.Join(parts.base, "tree"), filepath.Join(partial, "debian")); err != nil {
		return "", err
	}
	node := filepath.Join(partial, "node")
	if err := linkTree(filepath.Join(parts.layer, "tree"), node); err != nil {
		return "", err
	}
	for name, from := range parts.modules {
		if err := linkTree(from, filepath.Join(partial, "bin")); err != nil {
			return "", err
		}
		if target, ok := placed[name]; ok {
			if err := linkTree(from, filepath.Join(node, target)); err != nil {
				return "", err
			}
		}
	}
	for _, alias := range nodeAliases {
		if err := os.Link(filepath.Join(partial, "bin", alias), filepath.Join(node, "usr/local/bin", alias)); err != nil {
			return "", err
		}
	}
	if err := linkTree(filepath.Join(parts.criu, "criu"), filepath.Join(node, "opt/criu")); err != nil {
		return "", err
	}
	if err := linkTree(parts.tiny, filepath.Join(partial, "pause")); err != nil {
		return "", err
	}
	return Set(dir), os.Rename(partial, dir)
}

// linkTree copies a tree, which may already stand in part, by hard links. cp knows every kind of file, Go's library does not.
func linkTree(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if output, err := exec.Command("cp", "--archive", "--link", from+"/.", to).CombinedOutput(); err != nil {
		return fmt.Errorf("link %s: %w: %s", filepath.Base(from), err, output)
	}
	return nil
}
