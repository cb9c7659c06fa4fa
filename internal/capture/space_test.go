package capture

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatOthersHaveReservedIsNotFree(t *testing.T) {
	node := Node{Root: t.TempDir()}
	one, other := filepath.Join(node.Captures("a"), "1.partial"), node.Restores("b")
	for _, dir := range []string{one, other} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(one, &disk); err != nil {
		t.Fatal(err)
	}
	most := int64(disk.Bavail) * disk.Bsize / 3 * 2 // others may write to the disk meanwhile
	if err := node.Reserve(one, most); err != nil {
		t.Fatal(err)
	}
	if err := node.Reserve(one, most); err != nil {
		t.Errorf("its own reservation is in its way: %v", err)
	}
	full := (*NoSpaceError)(nil)
	if err := node.Reserve(other, most); !errors.As(err, &full) || full.Need != most || full.Free > most {
		t.Errorf("the second one gets %v", err)
	}
	if err := Unreserve(one); err != nil {
		t.Fatal(err)
	}
	if err := node.Reserve(other, most); err != nil {
		t.Errorf("after the first one has gone: %v", err)
	}
}
