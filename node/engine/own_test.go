package engine

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fh"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fown"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fsnotify"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

func TestFilesOfAVolumeThatKubeletFills(t *testing.T) {
	source := t.TempDir()
	if err := os.Symlink("..2026_new", filepath.Join(source, dataLink)); err != nil {
		t.Fatal(err)
	}
	own := map[string]string{"/config": source, "/etc/hosts": "/a/hosts", "/config/deeper": "/nowhere"}
	for name, want := range map[string]struct {
		name string
		is   bool
	}{
		"/config/..2026_old/key":     {"/config/..2026_new/key", true},
		"/config/..2026_old":         {"/config/..2026_new", true},
		"/config/..2026_old/dir/key": {"/config/..2026_new/dir/key", true},
		"/config/..data":             {"/config/..data", true},
		"/config/plain":              {"/config/plain", true},
		"/config":                    {"/config", true},
		"/configuration/..x/key":     {"/configuration/..x/key", false},
		"/etc/hosts":                 {"/etc/hosts", true},
		"/etc/hostname":              {"/etc/hostname", false},
		"/config/deeper/..old/key":   {"/config/deeper/..old/key", true},
		"relative":                   {"relative", false},
		"":                           {"", false},
	} {
		if got, is := ownName(name, own); got != want.name || is != want.is {
			t.Errorf("%q becomes %q, %t; want %q, %t", name, got, is, want.name, want.is)
		}
	}
}

// writeEntries writes an image with these entries.
func writeEntries(t *testing.T, path string, entries ...proto.Message) {
	t.Helper()
	out := []byte("headhead")
	for _, entry := range entries {
		data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(data))), data...)
	}
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

func regular(id uint32, name string, size *uint64) *fdinfo.FileEntry {
	return &fdinfo.FileEntry{Type: new(fdinfo.FdTypes_REG), Id: &id, Reg: &regfile.RegFileEntry{
		Id: &id, Name: &name, Size: size, Flags: new(uint32(0)), Pos: new(uint64(1)), Fown: nobody(),
	}}
}

func TestOpenFilesOfAPodsOwnAreAdapted(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("..2", filepath.Join(dir, dataLink)); err != nil {
		t.Fatal(err)
	}
	watch := func(path string) *fdinfo.FileEntry {
		return &fdinfo.FileEntry{Type: new(fdinfo.FdTypes_INOTIFY), Id: new(uint32(3)), Ify: &fsnotify.InotifyFileEntry{
			Id: new(uint32(3)), Flags: new(uint32(0)), Fown: nobody(), Wd: []*fsnotify.InotifyWdEntry{{
				Id: new(uint32(3)), IIno: new(uint64(0)), Mask: new(uint32(0)), IgnoredMask: new(uint32(0)), SDev: new(uint32(0)), Wd: new(uint32(1)),
				FHandle: &fh.FhEntry{Bytes: new(uint32(0)), Type: new(uint32(0)), Path: &path},
			}},
		}}
	}
	path := filepath.Join(dir, "files.img")
	writeEntries(t, path, regular(1, "/config/..1/key", new(uint64(7))), regular(2, "/data/file", new(uint64(7))), watch("/config/..1"))
	if err := adaptOwn(dir, map[string]string{"/config": dir}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeEntries(t, path, regular(1, "/config/..2/key", nil), regular(2, "/data/file", new(uint64(7))), watch("/config/..2"))
	want, err := os.ReadFile(path)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

func TestMountsFromOutsideAreTakenAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	entry := func(key string, deleted *bool) *mnt.MntEntry {
		return &mnt.MntEntry{
			Fstype: new(uint32(0)), MntId: new(uint32(1)), RootDev: new(uint32(2)), ParentMntId: new(uint32(0)), Flags: new(uint32(0)),
			Root: new("/x"), Mountpoint: new("/y"), Source: new("z"), Options: new(""), ExtKey: &key, Deleted: deleted,
		}
	}
	path := filepath.Join(dir, "mountpoints-13.img")
	writeEntries(t, path, entry("/one", new(true)), entry("", new(true)), entry("/two", nil))
	if err := adaptMounts(dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeEntries(t, path, entry("/one", nil), entry("", new(true)), entry("/two", nil))
	want, err := os.ReadFile(path)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

func TestAnImageThatIsCutShortIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "files.img")
	for _, content := range []string{"", "head", "headhead\x05", "headhead\x05\x00\x00\x00abc"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := adaptOwn(filepath.Dir(path), nil); err == nil {
			t.Errorf("%q is taken", content)
		}
	}
}

func nobody() *fown.FownEntry {
	return &fown.FownEntry{Uid: new(uint32(0)), Euid: new(uint32(0)), Signum: new(uint32(0)), PidType: new(uint32(0)), Pid: new(uint32(0))}
}
