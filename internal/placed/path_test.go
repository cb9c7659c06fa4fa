package placed

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAPathOfTheNodeIsFollowedThere(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"usr/bin", "store", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"usr/bin/runc", "store/config.toml"} {
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"bin": "/usr/bin", "etc/containerd": "../store", "sbin": "../../../../usr/bin"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/bin/runc": "usr/bin/runc", "/sbin/runc": "usr/bin/runc", "/etc/containerd/config.toml": "store/config.toml",
		"/etc/containerd/conf.d/new.toml": "store/conf.d/new.toml", "/nowhere/at/all": "nowhere/at/all", "/usr/bin/runc": "usr/bin/runc",
	} {
		if got := At(root, path); got != filepath.Join(root, want) {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}
