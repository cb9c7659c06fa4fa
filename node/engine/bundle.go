package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// Bundle is the folder from which an OCI runtime makes a container.
type Bundle struct{ Dir string }

func (b Bundle) config() string { return filepath.Join(b.Dir, "config.json") }

// Spec reads the container's OCI spec and returns it with its SHA-256.
func (b Bundle) Spec() (*specs.Spec, string, error) {
	data, err := os.ReadFile(b.config())
	if err != nil {
		return nil, "", err
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, "", fmt.Errorf("read %s: %w", b.config(), err)
	}
	sum := sha256.Sum256(data)
	return spec, "sha256:" + hex.EncodeToString(sum[:]), nil
}

// edit changes the spec in place. What this program knows nothing of stays as it is.
func (b Bundle) edit(change func(spec map[string]any)) error {
	data, err := os.ReadFile(b.config())
	if err != nil {
		return err
	}
	spec := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // 64 bits do not fit a float
	if err := decoder.Decode(&spec); err != nil {
		return fmt.Errorf("read %s: %w", b.config(), err)
	}
	change(spec)
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	temporary := b.config() + ".new"
	if err := os.WriteFile(temporary, data, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, b.config())
}

// criuOptions are what CRIU is told beside what an OCI runtime tells it (https://criu.org/Configuration_files). The network needs no lock, as
// every process of the pod that could use it is held; so nodes need no iptables. A connection that nobody has accepted yet was destroyed before, and
// only its place in the queue is skipped. What differs from container to container is told by another file, whose words these overrule: see asked.
const criuOptions = "network-lock skip\nskip-in-flight\n"

// Prepare has CRIU called with our options when the container is dumped or restored: runc takes them from a file that an annotation names,
// and remembers the annotation at create. What else the annotation says is overwritten. And it withholds io_uring from the container, unless its
// settings allow that.
func (b Bundle) Prepare(node capture.Node, settings capture.Settings) error {
	path := filepath.Join(node.Root, "run/checkpoint/criu.conf")
	if data, err := os.ReadFile(path); err != nil || string(data) != criuOptions {
		temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(temporary, []byte(criuOptions), 0o644), os.Rename(temporary, path)); err != nil {
			return err
		}
	}
	return b.edit(func(spec map[string]any) {
		annotations, ok := spec["annotations"].(map[string]any)
		if !ok {
			annotations = map[string]any{}
			spec["annotations"] = annotations
		}
		annotations["org.criu.config"] = path
		if !settings.AllowIOUring {
			withholdIOUring(spec)
		}
	})
}

// setQuota sets the container's share of processor time, in microseconds of each period; nil is no limit.
func (b Bundle) setQuota(quota any) error {
	return b.edit(func(spec map[string]any) {
		linux, _ := spec["linux"].(map[string]any)
		resources, _ := linux["resources"].(map[string]any)
		cpu, ok := resources["cpu"].(map[string]any)
		if !ok {
			return
		}
		delete(cpu, "quota")
		if quota != nil {
			cpu["quota"] = quota
		}
	})
}

// setMemory sets the limits of memory in the bundle's spec, as an object of the runtime specification has them; of nil there are none.
func (b Bundle) setMemory(limits *specs.LinuxMemory) error {
	return b.edit(func(spec map[string]any) {
		linux, _ := spec["linux"].(map[string]any)
		resources, _ := linux["resources"].(map[string]any)
		memory, ok := resources["memory"].(map[string]any)
		if !ok {
			return
		}
		delete(memory, "limit")
		delete(memory, "swap")
		if limits != nil && limits.Limit != nil {
			memory["limit"] = *limits.Limit
		}
		if limits != nil && limits.Swap != nil {
			memory["swap"] = *limits.Swap
		}
	})
}

// memoryOf returns the limits of memory of a spec; nil when it has none.
func memoryOf(spec *specs.Spec) *specs.LinuxMemory {
	if spec.Linux == nil || spec.Linux.Resources == nil || spec.Linux.Resources.Memory == nil {
		return nil
	}
	if m := spec.Linux.Resources.Memory; m.Limit != nil && *m.Limit > 0 {
		return m
	}
	return nil
}

// quotaOf returns the share of processor time that a spec gives, if it limits it.
func quotaOf(spec *specs.Spec) (quota int64, period uint64, limited bool) {
	if spec.Linux == nil || spec.Linux.Resources == nil || spec.Linux.Resources.CPU == nil {
		return 0, 0, false
	}
	cpu := spec.Linux.Resources.CPU
	if cpu.Quota == nil || *cpu.Quota <= 0 {
		return 0, 0, false
	}
	period = 100_000
	if cpu.Period != nil {
		period = *cpu.Period
	}
	return *cpu.Quota, period, true
}
