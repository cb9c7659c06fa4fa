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

// What lay in a folder before is not what was reserved for it.
func TestWhatIsThereAlreadyIsNotWhatWasReserved(t *testing.T) {
	node := Node{Root: t.TempDir()}
	restores := node.Restores("a")
	earlier := filepath.Join(restores, "states/boot/earlier")
	if err := os.MkdirAll(earlier, 0o700); err != nil {
		t.Fatal(err)
	}
	const size, need, little = 2 << 20, 1 << 20, 64 << 10
	if err := os.WriteFile(filepath.Join(earlier, "pages-1.img"), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := node.Reserve(restores, need); err != nil {
		t.Fatal(err)
	}
	if got, err := node.outstanding(); err != nil || got < need-little || got > need {
		t.Errorf("%d bytes are not free for others, %v; want %d", got, err, need)
	}
	if err := os.WriteFile(filepath.Join(restores, "states/boot/next"), make([]byte, need/2), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := node.outstanding(); err != nil || got < need/2-little || got > need/2 {
		t.Errorf("when the half is written it is %d, %v; want %d", got, err, need/2)
	}
	if err := node.Decide("a", Decision{Action: Cold}); err != nil { // by the runtime, as whoever fetched was killed
		t.Fatal(err)
	}
	if got, err := node.outstanding(); err != nil || got != 0 {
		t.Errorf("when it is decided it is %d, %v", got, err)
	}
}
