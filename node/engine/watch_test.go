package engine

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWatchesAreReadFromProc(t *testing.T) {
	for line, want := range map[string]uint64{
		"inotify wd:1 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8": 0x9e7e,
		"fanotify ino:10 sdev:800013 mflags:0 mask:3b":                                  0x10,
		"fanotify flags:10 event-flags:0":                                               0,
		"pos:	0":                                                                        0,
	} {
		inode, device, found := watchOf(line)
		if inode != want || found != (want != 0) || found && device != 0x800013 {
			t.Errorf("of %q it reads %#x on %#x, %t", line, inode, device, found)
		}
	}
}

func TestWatchedFilesAreFoundOnTheirDevice(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	var folder, top unix.Stat_t
	if err := unix.Stat(filepath.Join(root, "a/b"), &folder); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(root, &top); err != nil {
		t.Fatal(err)
	}
	found, err := pathsOf(root, top.Dev, map[uint64]bool{folder.Ino: true, 1 << 60: true})
	if err != nil || len(found) != 1 || found[0] != "/a/b" {
		t.Errorf("it finds %q, %v", found, err)
	}
	if found, err := pathsOf(root, top.Dev+1, map[uint64]bool{folder.Ino: true}); err != nil || len(found) > 0 {
		t.Errorf("on another device it finds %q, %v", found, err)
	}
}
