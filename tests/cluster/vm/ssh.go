package vm

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// EnsureKey makes, unless it is there, the key to the virtual machines of a cluster, and returns the line that lets it in.
func EnsureKey(c spec.Cluster) (authorized []byte, err error) {
	data, err := os.ReadFile(c.SSHKey())
	if errors.Is(err, fs.ErrNotExist) {
		data, err = newKey(c.SSHKey())
	}
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return nil, err
	}
	return ssh.MarshalAuthorizedKey(signer.PublicKey()), nil
}

func newKey(path string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "localcluster")
	if err != nil {
		return nil, err
	}
	data := pem.EncodeToMemory(block)
	return data, spec.WriteFile(path, data, 0o600)
}

// SSH is the command line by which a command runs on a node, as root there. It must be called in the network of the control plane. Commands share one
// connection, since to make one takes longer than most of them.
func SSH(c spec.Cluster, n spec.Node, words []string) []string {
	line := []string{"ssh", "-F", "none", "-i", c.SSHKey()}
	for _, option := range []string{
		"StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes", "ConnectTimeout=10",
		"ServerAliveInterval=5", "ServerAliveCountMax=6", "ControlMaster=auto", "ControlPath=" + c.SSHSocket(n.Name), "ControlPersist=600",
	} {
		line = append(line, "-o", option)
	}
	quoted := make([]string, 0, len(words))
	for _, word := range words {
		quoted = append(quoted, "'"+strings.ReplaceAll(word, "'", `'\''`)+"'")
	}
	return append(line, "root@"+n.IP(), "--", strings.Join(quoted, " "))
}
