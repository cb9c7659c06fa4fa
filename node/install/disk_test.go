package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// device is one of a /sys that a test makes: what dm says of it, and what it is made of.
type device struct {
	uuid  string
	below []string
}

// sysOf makes a /sys with those devices, of which the first has a folder on it.
func sysOf(t *testing.T, folder string, names []string, devices map[string]device) string {
	t.Helper()
	sys := t.TempDir()
	var info unix.Stat_t
	if err := unix.Stat(folder, &info); err != nil {
		t.Fatal(err)
	}
	if unix.Major(info.Dev) == 0 {
		t.Skip("the temporary folder is on no device")
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		dir := filepath.Join(sys, "block", name)
		must(os.MkdirAll(filepath.Join(dir, "slaves"), 0o700))
		if uuid := devices[name].uuid; uuid != "" {
			must(os.MkdirAll(filepath.Join(dir, "dm"), 0o700))
			must(os.WriteFile(filepath.Join(dir, "dm/uuid"), []byte(uuid+"\n"), 0o600))
		}
		for _, other := range devices[name].below {
			must(os.Symlink(filepath.Join(sys, "block", other), filepath.Join(dir, "slaves", other)))
		}
	}
	must(os.MkdirAll(filepath.Join(sys, "dev/block"), 0o700))
	must(os.Symlink(filepath.Join(sys, "block", names[0]), filepath.Join(sys, "dev/block", fmt.Sprintf("%d:%d", unix.Major(info.Dev), unix.Minor(info.Dev)))))
	return sys
}

func TestAnEncryptedDiskIsKnown(t *testing.T) {
	luks, lvm := device{uuid: "CRYPT-LUKS2-1234-state", below: []string{"sda2"}}, "LVM-5678"
	for name, test := range map[string]struct {
		devices map[string]device
		names   []string // the first one has the file system
		says    string   // nothing where it is encrypted
	}{
		"a partition":      {names: []string{"sda1"}, says: "sda1 is a disk, or a part of one"},
		"LUKS":             {map[string]device{"dm-0": luks}, []string{"dm-0", "sda2"}, ""},
		"a volume on LUKS": {map[string]device{"dm-1": {lvm, []string{"dm-0"}}, "dm-0": luks}, []string{"dm-1", "dm-0", "sda2"}, ""},
		"a volume on LUKS and a plain one": {
			map[string]device{"dm-1": {lvm, []string{"dm-0", "sdb"}}, "dm-0": luks}, []string{"dm-1", "dm-0", "sda2", "sdb"}, "sdb is a disk",
		},
		"a volume": {map[string]device{"dm-1": {lvm, []string{"sda2"}}}, []string{"dm-1", "sda2"}, "sda2 is a disk"},
	} {
		folder := t.TempDir()
		err := isEncrypted(folder, sysOf(t, folder, test.names, test.devices))
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %v; it should say %q", name, err, test.says)
		}
	}
	if err := isEncrypted("/proc", "/sys"); err == nil || !strings.Contains(err.Error(), "no device of its own") {
		t.Errorf("/proc: %v", err)
	}
}

func TestANodeWhoseDiskIsNotEncryptedIsNotReadyWhereThatIsAskedFor(t *testing.T) {
	i, f, recorder := newInstaller(t, "nvidia")
	i.RequireEncryptedDisk = true
	state := filepath.Join(f.root(), "var/lib/checkpoint")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	i.sys = sysOf(t, state, []string{"sda1"}, nil)
	all := func() string { return strings.Join(told(recorder), "\n") }
	if i.once(t.Context()) || len(labelsOf(t, i)) > 0 {
		t.Errorf("the node is ready: %v", labelsOf(t, i))
	}
	if says := all(); !strings.Contains(says, "InstallFailed") || !strings.Contains(says, "--require-encrypted-disk") || !strings.Contains(says, "sda1") {
		t.Errorf("it says %s", says)
	}
	i.sys = sysOf(t, state, []string{"dm-0"}, map[string]device{"dm-0": {uuid: "CRYPT-LUKS2-1"}})
	if !i.once(t.Context()) || len(labelsOf(t, i)) == 0 {
		t.Errorf("the node is not ready: %s", all())
	}
}
