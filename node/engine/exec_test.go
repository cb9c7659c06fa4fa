package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestOnlyTheRealNullIsOpened(t *testing.T) {
	for name, test := range map[string]struct {
		make func(path string) error
		fine bool
	}{
		"the device":                    {func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }, true},
		"another device":                {func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) }, false},
		"a link to the node's":          {func(path string) error { return os.Symlink("/dev/null", path) }, false},
		"a link that climbs out":        {func(path string) error { return os.Symlink("../../../../../../dev/null", path) }, false},
		"a pipe, which would be waited": {func(path string) error { return unix.Mkfifo(path, 0o666) }, false},
		"a file":                        {func(path string) error { return os.WriteFile(path, nil, 0o666) }, false},
		"nothing":                       {func(string) error { return nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "dev"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := test.make(filepath.Join(dir, "dev/null")); errors.Is(err, unix.EPERM) {
				t.Skip("devices need root")
			} else if err != nil {
				t.Fatal(err)
			}
			root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(root)
			file, err := openNull(root)
			if err == nil {
				defer file.Close()
			}
			if test.fine && errors.Is(err, unix.EACCES) {
				t.Skip("the folder for temporary files allows no devices")
			}
			if (err == nil) != test.fine {
				t.Errorf("it says %v", err)
			}
		})
	}
}

func TestNothingIsStartedInAPodThatIsCaptured(t *testing.T) {
	node := capture.Node{Root: t.TempDir()}
	if err := BeginExec(node, "pod", false); err != nil {
		t.Fatal(err)
	}
	lock, err := endExecs(node, "pod")
	if err != nil {
		t.Fatal(err)
	}
	if err := BeginExec(node, "pod", false); !errors.Is(err, ErrCapturing) {
		t.Errorf("while it is captured: %v", err)
	}
	if err := BeginExec(node, "other", false); err != nil {
		t.Errorf("another pod: %v", err)
	}
	lock.release()
	if err := BeginExec(node, "pod", true); err != nil { // kept, as by a program that this process becomes
		t.Errorf("after: %v", err)
	}
	file, err := execLock(node, "pod")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("what is being started does not hold the lock: %v", err)
	}
}
