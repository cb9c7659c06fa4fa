package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// openDir is a temporary folder that everybody may go through.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rightsOf are those of a container's first process with these effective and ambient capabilities.
func rightsOf(user, group uint32, capabilities ...string) *capture.Security {
	return &capture.Security{UID: user, GID: group, Capabilities: map[string][]string{"effective": capabilities, "ambient": nil}}
}

func TestFilesAreReachedWithTheRightsOfTheContainer(t *testing.T) {
	needsRoot(t)
	dir := openDir(t)
	for name, test := range map[string]struct{ owner, group, mode int }{
		"root's": {0, 0, 0o600}, "own": {1000, 1000, 0o600}, "of the group": {0, 2000, 0o640}, "of another group": {0, 3000, 0o640},
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, test.owner, test.group), os.Chmod(path, fs.FileMode(test.mode))); err != nil {
			t.Fatal(err)
		}
	}
	with := func(rights *capture.Security, groups ...uint32) *capture.Security {
		rights.Groups = groups
		return rights
	}
	for what, test := range map[string]struct {
		rights *capture.Security
		may    map[string]bool
	}{
		"a user":                    {with(rightsOf(1000, 1000), 2000), map[string]bool{"own": true, "of the group": true}},
		"a user with what root may": {rightsOf(1000, 1000, "CAP_DAC_OVERRIDE", "CAP_CHOWN"), map[string]bool{"own": true}},
		"root with its capabilities": {
			rightsOf(0, 0, "CAP_DAC_OVERRIDE"), map[string]bool{"root's": true, "own": true, "of the group": true, "of another group": true},
		},
		"root without its capabilities": {rightsOf(0, 0), map[string]bool{"root's": true, "of the group": true, "of another group": true}},
	} {
		t.Run(what, func(t *testing.T) {
			for _, name := range []string{"root's", "own", "of the group", "of another group"} {
				err := as(test.rights, func() error {
					file, err := os.Open(filepath.Join(dir, name))
					if err != nil {
						return err
					}
					return file.Close()
				})
				if (err == nil) != test.may[name] || err != nil && !errors.Is(err, fs.ErrPermission) {
					t.Errorf("it opens what is %s: %v", name, err)
				}
			}
		})
	}
	if err := as(rightsOf(1000, 1000), func() error { return os.Chown(filepath.Join(dir, "own"), 0, 0) }); !errors.Is(err, unix.EPERM) {
		t.Errorf("a user gives a file away: %v", err)
	}
	if _, err := os.ReadFile(filepath.Join(dir, "own")); err != nil {
		t.Errorf("afterwards this process cannot read: %v", err)
	}
	if user := unix.Getuid(); user != 0 {
		t.Errorf("afterwards this process is user %d", user)
	}
}
