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
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/transparent-checkpoint/operator/tests/cluster/debian"
	"github.com/transparent-checkpoint/operator/tests/cluster/host"
	"github.com/transparent-checkpoint/operator/tests/cluster/progress"
	"github.com/transparent-checkpoint/operator/tests/cluster/spec"
)

// nodePackages are what a node has beyond a minimal Debian: what kubelet, kube-proxy, CNI plugins and CRIU call.
var nodePackages = []string{"conntrack", "iproute2", "iptables", "kmod", "nftables", "procps"}

// Builder makes the parts from the folder Source (tests/cluster/parts of a checkout) and keeps them in Cache.
type Builder struct {
	Source string
	Cache  string
	Log    *progress.Log
}

// DefaultCache is where parts are kept unless LOCALCLUSTER_CACHE names another folder.
func DefaultCache() (string, error) {
	if dir := os.Getenv("LOCALCLUSTER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "transparent-checkpoint"), err
}

// Set is a folder with everything that a cluster runs from: bin (the control plane's programs), debian (a minimal tree) and node
// (what a node has above it: packages, programs, CNI plugins, CRIU), and pause, the program of the sandbox image.
type Set string

// Bin returns the path of a program.
func (s Set) Bin(name string) string { return filepath.Join(string(s), "bin", name) }

// Debian is the minimal tree that nodes and images are built on.
func (s Set) Debian() string { return filepath.Join(string(s), "debian") }

// built is where each part came to lie.
type built struct {
	modules                 map[string]string
	base, layer, criu, tiny string
}

// Ensure builds whatever is not in the cache yet and returns the set.
func (b Builder) Ensure(ctx context.Context) (Set, error) {
	if err := b.prerequisites(); err != nil {
		return "", err
	}
	lock, err := host.Lock(filepath.Join(b.Cache, "lock"), 0)
	if err != nil {
		b.Log.Printf("waiting for another command that builds parts …")
		lock, err = host.Lock(filepath.Join(b.Cache, "lock"), 30*time.Minute)
	}
	if err != nil {
		return "", err
	}
	defer lock.Close()
	parts := built{modules: map[string]string{}}
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return b.goParts(ctx, &parts) })
	work.Go(func() error { return b.debianParts(ctx, &parts) })
	if err := work.Wait(); err != nil {
		return "", err
	}
	return b.assemble(parts)
}

// AgentCRIU builds, unless the cache has it, the CRIU that goes into the agent's image, and returns its folder. It is the one of the nodes
// but for its home, and without the shim.
func (b Builder) AgentCRIU(ctx context.Context, home string) (string, error) {
	if err := b.prerequisites(); err != nil {
		return "", err
	}
	lock, err := host.Lock(filepath.Join(b.Cache, "lock"), 30*time.Minute)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	dir, err := b.once("bundle CRIU "+debian.CRIUVersion+" for "+filepath.Clean(home), "", "agent-criu", short(debian.CRIUVersion+home), func(dir string) error {
		return debian.Cache{Dir: b.Cache}.CRIU(ctx, filepath.Join(dir, "criu"), home)
	})
	return filepath.Join(dir, "criu"), err
}

// prerequisites names everything that the machine lacks, at once.
func (b Builder) prerequisites() error {
	if os.Getuid() != 0 {
		return errors.New("a local cluster needs root: namespaces, mounts and cgroups are its parts")
	}
	if _, err := os.Stat(filepath.Join(b.Source, "kubernetes/go.mod")); err != nil {
		return fmt.Errorf("the sources of the parts are not at %s: call bin/localcluster of a checkout, or set LOCALCLUSTER_SOURCE", b.Source)
	}
	var missing []string
	for program, origin := range map[string]string{
		"go": "Go", "gcc": "gcc", "debootstrap": "debootstrap", "patchelf": "patchelf", "apt-get": "Debian", "mkfs.ext4": "e2fsprogs",
		"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount",
	} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Sprintf("%s (%s)", program, origin))
		}
	}
	if _, err := os.Stat("/usr/include/seccomp.h"); err != nil {
		missing = append(missing, "seccomp.h (libseccomp-dev)")
	}
	if len(missing) > 0 {
		return fmt.Errorf("the machine lacks %s; `make prerequisites` installs them", strings.Join(missing, ", "))
	}
	return nil
}

func (b Builder) goParts(ctx context.Context, parts *built) error {
	for _, m := range modules {
		key, err := m.key(b.Source)
		if err != nil {
			return err
		}
		dir, err := b.once("build "+m.name, m.note, m.name, key, func(dir string) error { return m.build(ctx, b.Source, dir) })
		if err != nil {
			return err
		}
		parts.modules[m.name] = dir
	}
	key, err := keyOf("pause", filepath.Join(b.Source, "kubernetes"))
	if err != nil {
		return err
	}
	parts.tiny, err = b.once("build pause", "", "pause", key, func(dir string) error { return b.pause(ctx, dir) })
	return err
}

// pause compiles the sandbox program that comes with Kubernetes.
func (b Builder) pause(ctx context.Context, dir string) error {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	list.Dir = filepath.Join(b.Source, "kubernetes")
	source, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	return compile(ctx, "-Os", "-static", "-DVERSION=local", "-o", filepath.Join(dir, "pause"),
		filepath.Join(strings.TrimSpace(string(source)), "build/pause/linux/pause.c"))
}

func (b Builder) debianParts(ctx context.Context, parts *built) error {
	cache := debian.Cache{Dir: b.Cache}
	var err error
	if parts.base, err = b.base(ctx); err != nil {
		return err
	}
	packages := strings.Join(nodePackages, " ")
	parts.layer, err = b.once("add the nodes' packages", "", "node", short(debian.Suite+packages), func(dir string) error {
		return cache.Layer(ctx, filepath.Join(parts.base, "tree"), filepath.Join(dir, "tree"), nodePackages)
	})
	if err != nil {
		return err
	}
	key, err := keyOf(debian.CRIUVersion+spec.CRIUDirectory, filepath.Join(b.Source, "criu"))
	if err != nil {
		return err
	}
	parts.criu, err = b.once("bundle CRIU "+debian.CRIUVersion, "", "criu", key, func(dir string) error {
		if err := cache.CRIU(ctx, filepath.Join(dir, "criu"), spec.CRIUDirectory); err != nil {
			return err
		}
		return compile(ctx, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", filepath.Join(dir, "criu/prlimit-shim.so"),
			filepath.Join(b.Source, "criu/prlimit-shim.c"))
	})
	return err
}

func (b Builder) base(ctx context.Context) (string, error) {
	return b.once("make a Debian tree", "about 1 minute", "debian", short(debian.Suite), func(dir string) error {
		return debian.Cache{Dir: b.Cache}.Base(ctx, filepath.Join(dir, "tree"))
	})
}

// once makes a part unless the cache has it; half a part never stands in the cache.
func (b Builder) once(step, note, name, key string, work func(dir string) error) (string, error) {
	dir := filepath.Join(b.Cache, "parts", name+"-"+key)
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	partial := dir + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(partial, 0o755)); err != nil {
		return "", err
	}
	if err := b.Log.Step(step, note, func() error { return work(partial) }); err != nil {
		return "", err
	}
	return dir, os.Rename(partial, dir)
}

func compile(ctx context.Context, args ...string) error {
	if output, err := exec.CommandContext(ctx, "gcc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("gcc: %w:\n%s", err, output)
	}
	return nil
}

func short(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:12]
}
