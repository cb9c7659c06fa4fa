package parts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/transparent-checkpoint/operator/tests/cluster/host"
)

// program is one executable of a Go module.
type program struct {
	// name is the file's; pkg is what is built, "." for the folder's own main package.
	name, pkg string
	// aliases are the further names that the program is called by.
	aliases []string
}

// module is a folder below this one with the go.mod that its programs are built from.
type module struct {
	name     string
	note     string // how long a first build takes
	programs []program
	tags     string
	ldflags  string
	cgo      bool
}

const kubernetesVersion = "v1.37.2"

var modules = []module{
	{name: "kubernetes", note: "about 6 minutes on two cores", programs: []program{{name: "kubernetes", pkg: ".", aliases: []string{
		"kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet",
	}}}, ldflags: "-X k8s.io/component-base/version.gitVersion=" + kubernetesVersion + " -X k8s.io/client-go/pkg/version.gitVersion=" + kubernetesVersion},
	{name: "minio", note: "about 2 minutes", programs: []program{{name: "minio", pkg: "github.com/minio/minio"}}},
	{name: "containerd", note: "about 1 minute", programs: containerdPrograms, ldflags: "-X github.com/containerd/containerd/v2/version.Version=v2.4.2"},
	{name: "etcd", programs: []program{{name: "etcd", pkg: "go.etcd.io/etcd/server/v3"}}},
	{name: "runc", programs: []program{{name: "runc", pkg: "github.com/opencontainers/runc"}},
		cgo: true, tags: "seccomp netgo osusergo", ldflags: "-extldflags -static -X main.version=1.5.2"},
	{name: "cni", programs: []program{
		{name: "bridge", pkg: "github.com/containernetworking/plugins/plugins/main/bridge"},
		{name: "loopback", pkg: "github.com/containernetworking/plugins/plugins/main/loopback"},
		{name: "host-local", pkg: "github.com/containernetworking/plugins/plugins/ipam/host-local"},
		{name: "portmap", pkg: "github.com/containernetworking/plugins/plugins/meta/portmap"},
	}},
}

var containerdPrograms = []program{
	{name: "containerd", pkg: "github.com/containerd/containerd/v2/cmd/containerd"},
	{name: "containerd-shim-runc-v2", pkg: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"},
	{name: "ctr", pkg: "github.com/containerd/containerd/v2/cmd/ctr"},
}

// olderContainerd is the one of nodes that are asked to have it: the oldest with the configuration of version 3.
var olderContainerd = module{
	name: "containerd-2.1", note: "about 1 minute", programs: containerdPrograms,
	ldflags: "-X github.com/containerd/containerd/v2/version.Version=v2.1.9",
}

// OlderContainerd builds, unless the cache has it, an older containerd, and returns a folder that is laid over what nodes have.
func (b Builder) OlderContainerd(ctx context.Context) (string, error) {
	lock, err := host.Lock(filepath.Join(b.Cache, "lock"), 30*time.Minute)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	m := olderContainerd
	key, err := m.key(b.Source)
	if err != nil {
		return "", err
	}
	return b.once("build "+m.name, m.note, m.name, key, func(dir string) error {
		programs := filepath.Join(dir, "usr/local/bin")
		return errors.Join(os.MkdirAll(programs, 0o755), m.build(ctx, b.Source, programs))
	})
}

// key is made of everything that decides what a build yields.
func (m module) key(source string) (string, error) {
	recipe := fmt.Sprintf("%v %s", m.withoutNote(), runtime.Version())
	return keyOf(recipe, filepath.Join(source, m.name))
}

func (m module) withoutNote() module {
	m.note = ""
	return m
}

// build compiles every program of the module into dir.
func (m module) build(ctx context.Context, source, dir string) error {
	for _, p := range m.programs {
		args := []string{"build", "-trimpath", "-tags", m.tags, "-ldflags", "-s -w " + m.ldflags, "-o", filepath.Join(dir, p.name), p.pkg}
		command := exec.CommandContext(ctx, "go", args...)
		command.Dir = filepath.Join(source, m.name)
		command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false -mod=readonly")
		if m.cgo {
			command.Env = append(command.Env, "CGO_ENABLED=1")
		}
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w:\n%s", p.pkg, err, output)
		}
		for _, alias := range p.aliases {
			if err := os.Link(filepath.Join(dir, p.name), filepath.Join(dir, alias)); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyOf hashes a recipe and the files of a folder.
func keyOf(recipe, dir string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, recipe)
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	sort.Strings(files)
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", strings.TrimPrefix(path, dir), len(data), data)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}
