package failpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const childFolder = "FAILPOINT_TEST_FOLDER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(childFolder); folder != "" {
		hit(folder, UploadDone)
		return
	}
	os.Exit(m.Run())
}

func TestAWishIsGrantedOnce(t *testing.T) {
	folder := t.TempDir()
	wish := func(text string) {
		if err := os.WriteFile(filepath.Join(folder, string(UploadDone)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wish("hold 50ms\n")
	began := time.Now()
	hit(folder, UploadNoted)
	if took := time.Since(began); took > 40*time.Millisecond {
		t.Errorf("another step takes %s", took)
	}
	hit(folder, UploadDone)
	if took := time.Since(began); took < 50*time.Millisecond {
		t.Errorf("it is held for %s", took)
	}
	wish("kill")
	for _, killed := range []bool{true, false} {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childFolder+"="+folder)
		err := child.Run()
		status, _ := child.ProcessState.Sys().(syscall.WaitStatus)
		if killed != (status.Signaled() && status.Signal() == syscall.SIGKILL) || !killed && err != nil {
			t.Errorf("killed: %t; it ended by %v", killed, err)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, string(UploadDone)+Granted)); err != nil {
		t.Error(err)
	}
}
