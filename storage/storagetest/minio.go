package storagetest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
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
	// CA is the certificate in PEM that the server's is signed by; nil without HTTPS.
	CA []byte
	// KMSKey is the name of the only key that the server itself can encrypt with; empty is none.
	KMSKey string
	// Region is the only one that requests may be signed for, from the next Start on; empty means any.
	Region string

	binary string
	dir    string
	output bytes.Buffer
	cmd    *exec.Cmd
	exited chan struct{}
}

// WithHTTPS has a server be started with HTTPS alone.
func WithHTTPS(t testing.TB, m *MinIO) { m.CA = makeCertificate(t, m.certificates()) }

// WithKMS has a server be started that can encrypt by itself, which MinIO otherwise cannot.
func WithKMS(_ testing.TB, m *MinIO) { m.KMSKey = "test-key" }

// StartMinIO starts a server that ends with the test. Without a binary the test is skipped, or fails when CI=true.
func StartMinIO(t testing.TB, options ...func(testing.TB, *MinIO)) *MinIO {
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
	for _, option := range options {
		option(t, m)
	}
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
func (m *MinIO) URL() string {
	if m.CA != nil {
		return "https://" + m.Address
	}
	return "http://" + m.Address
}

// Authorities are those that may sign the certificate of the server.
func (m *MinIO) Authorities() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(m.CA)
	return pool
}

// certificates is the folder of the server's own certificate, which MinIO does not take for a bucket.
func (m *MinIO) certificates() string { return filepath.Join(m.dir, ".certificates") }

// Start starts the server again after Kill, with the data that it had, and waits until it answers.
func (m *MinIO) Start(t testing.TB) {
	t.Helper()
	m.cmd = exec.Command(m.binary, "server", "--quiet", "--certs-dir", m.certificates(), "--address", m.Address, m.dir)
	m.cmd.Env = []string{
		"MINIO_ROOT_USER=" + m.AccessKey, "MINIO_ROOT_PASSWORD=" + m.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "CI=true", "HOME=" + m.dir,
		"MINIO_SITE_REGION=" + m.Region,
	}
	if m.KMSKey != "" {
		m.cmd.Env = append(m.cmd.Env, "MINIO_KMS_SECRET_KEY="+m.KMSKey+":"+base64.StdEncoding.EncodeToString(make([]byte, 32)))
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
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: m.Authorities()}}
	client := http.Client{Timeout: time.Second, Transport: transport}
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
		isOnline := response.Header.Get("X-Minio-Server-Status") == "" // which it answers before it has looked at its data
		if err := response.Body.Close(); err == nil && isOnline && response.StatusCode == http.StatusOK {
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
