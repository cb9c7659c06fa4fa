package storagetest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// MinIOVariable names the environment variable with the path of a MinIO server's binary.
const MinIOVariable = "TEST_MINIO"

// MinIO is a server of its own for a test: on 127.0.0.1, over HTTP, without a bucket.
type MinIO struct {
	Address   string // host:port
	AccessKey string
	SecretKey string
	// Region is the only one that requests may be signed for, from the next Start on; empty means any.
	Region string

	binary string
	dir    string
	output bytes.Buffer
	cmd    *exec.Cmd
	exited chan struct{}
}

// StartMinIO starts a server that ends with the test. Without a binary the test is skipped, or fails when CI=true.
func StartMinIO(t testing.TB) *MinIO {
	t.Helper()
	binary := os.Getenv(MinIOVariable)
	if binary == "" {
		reason := MinIOVariable + " is not set; it may be the path of a MinIO server's binary"
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	m := &MinIO{Address: UnusedAddress(t), AccessKey: "test-access-key", SecretKey: "test-secret-key", binary: binary, dir: t.TempDir()}
	m.Start(t)
	t.Cleanup(func() {
		m.Kill()
		if t.Failed() {
			t.Logf("output of MinIO:\n%s", m.output.Bytes())
		}
	})
	return m
}

// UnusedAddress returns an address on 127.0.0.1 at which nobody listens.
func UnusedAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

// URL is the server's address as a URL.
func (m *MinIO) URL() string { return "http://" + m.Address }

// Start starts the server again after Kill, with the data that it had, and waits until it answers.
func (m *MinIO) Start(t testing.TB) {
	t.Helper()
	m.cmd = exec.Command(m.binary, "server", "--quiet", "--address", m.Address, m.dir)
	m.cmd.Env = []string{
		"MINIO_ROOT_USER=" + m.AccessKey, "MINIO_ROOT_PASSWORD=" + m.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "CI=true", "HOME=" + m.dir,
		"MINIO_SITE_REGION=" + m.Region,
	}
	m.cmd.Stdout, m.cmd.Stderr = &m.output, &m.output
	// A test binary that times out or is killed runs no clean-up.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		t.Fatalf("start MinIO: %v", err)
	}
	cmd, exited := m.cmd, make(chan struct{})
	m.exited = exited
	go func() {
		_ = cmd.Wait() // it is killed, so it always reports an error
		close(exited)
	}()
	if err := m.awaitReady(time.Minute); err != nil {
		m.Kill()
		t.Fatalf("start MinIO: %v; its output:\n%s", err, m.output.Bytes())
	}
}

// Kill ends the server at once, by its process id.
func (m *MinIO) Kill() {
	_ = m.cmd.Process.Kill() // it may have ended by itself
	<-m.exited
}

func (m *MinIO) awaitReady(limit time.Duration) error {
	client := http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		select {
		case <-m.exited:
			return fmt.Errorf("it ended: %v", m.cmd.ProcessState)
		case <-time.After(50 * time.Millisecond):
		}
		response, err := client.Get(m.URL() + "/minio/health/ready")
		if err != nil {
			continue
		}
		if err := response.Body.Close(); err == nil && response.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("it is not ready after %v", limit)
}

// MakeBucket makes a bucket without an SDK: on a single drive it is a folder at the top. The server may run or not.
func (m *MinIO) MakeBucket(t testing.TB, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(m.dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
}
