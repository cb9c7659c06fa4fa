package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/node/engine"
)

// The annotations by which containerd's CRI says what a container is
// (https://github.com/containerd/containerd/blob/main/internal/cri/annotations/annotations.go).
const (
	containerType    = "io.kubernetes.cri.container-type"
	containerName    = "io.kubernetes.cri.container-name"
	sandboxID        = "io.kubernetes.cri.sandbox-id"
	sandboxName      = "io.kubernetes.cri.sandbox-name"
	sandboxNamespace = "io.kubernetes.cri.sandbox-namespace"
	sandboxUID       = "io.kubernetes.cri.sandbox-uid"
	imageName        = "io.kubernetes.cri.image-name"
)

// create makes the sandbox of a labelled pod wait for the decision, and restores its containers when the decision says so. Whatever
// goes wrong with a restore, the container is created.
func (f *front) create() error {
	operands, values := f.words.operands()
	if len(operands) != 1 {
		return f.pass()
	}
	dir := values["bundle"]
	if dir == "" {
		dir = values["b"]
	}
	if dir == "" {
		dir = "."
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	bundle := engine.Bundle{Dir: dir}
	spec, digest, err := bundle.Spec()
	if err != nil {
		return f.pass() // whose error is better
	}
	value, labelled := spec.Annotations[keys.Effective]
	if !labelled || spec.Annotations[sandboxUID] == "" {
		return f.pass()
	}
	settings, err := capture.ParseSettings(value)
	if err != nil {
		return err
	}
	c := f.record(operands[0], dir, values["pid-file"], spec)
	c.Settings, c.SpecDigest = settings, digest
	if spec.Annotations[containerType] == "sandbox" {
		return f.createSandbox(c)
	}
	return f.createContainer(c, bundle, values)
}

// record says of a new container what its capture will need to know.
func (f *front) record(id, bundle, pidFile string, spec *specs.Spec) *engine.Container {
	a := spec.Annotations
	c := &engine.Container{
		ID: id, Name: a[containerName], Bundle: bundle, PIDFile: pidFile, Image: a[imageName], Sandbox: a[sandboxID],
		Pod:     capture.Pod{Namespace: a[sandboxNamespace], Name: a[sandboxName], UID: a[sandboxUID]},
		Runtime: f.config.Runtime, CRIUDirectory: f.config.CRIUDirectory, Global: f.words.global, Volumes: map[string]string{},
	}
	if !filepath.IsAbs(pidFile) {
		c.PIDFile = filepath.Join(bundle, pidFile)
	}
	volumes := filepath.Join(f.config.KubeletRoot, "pods", c.Pod.UID, "volumes/kubernetes.io~empty-dir")
	for _, mount := range spec.Mounts {
		if mount.Destination == "/dev/shm" && mount.Type == "bind" {
			c.Shm = mount.Source
		}
		if name, inside := strings.CutPrefix(mount.Source, volumes+"/"); inside {
			name, _, _ = strings.Cut(name, "/")
			c.Volumes[name] = filepath.Join(volumes, name)
		}
	}
	if spec.Linux != nil {
		for _, namespace := range spec.Linux.Namespaces {
			switch namespace.Type {
			case specs.NetworkNamespace:
				c.Network = namespace.Path
			case specs.IPCNamespace:
				c.IPC = namespace.Path
			}
		}
	}
	if upper, err := engine.UpperOf(bundle, spec); err == nil {
		c.Upper = upper
	}
	return c
}

func (f *front) createSandbox(c *engine.Container) error {
	if c.Network != "" {
		if err := engine.DisableMultipathTCP(c.Network); err != nil {
			f.engine(c.Pod.UID).Log("multipath TCP stays on: %v", err)
		}
	}
	if _, err := f.await(c.Pod); err != nil {
		return err
	}
	if err := engine.Remember(f.node, c); err != nil {
		return err
	}
	return f.pass()
}

func (f *front) createContainer(c *engine.Container, bundle engine.Bundle, values map[string]string) error {
	e := f.engine(c.Pod.UID)
	if !c.Selected() {
		if err := engine.Remember(f.node, c); err != nil {
			return err
		}
		return f.pass()
	}
	if err := e.PodGoesOn(c); err != nil {
		return err
	}
	if err := bundle.Prepare(f.node); err != nil {
		return err
	}
	if f.restore(e, c, values) {
		return nil
	}
	if err := engine.Remember(f.node, c); err != nil {
		return err
	}
	return f.pass()
}

// restore tells whether the container was restored. A decision serves one create of each container (design R6).
func (f *front) restore(e *engine.Engine, c *engine.Container, values map[string]string) bool {
	decision, err := f.node.Decision(c.Pod.UID)
	if err != nil || !decision.Restores(c.Name, time.Now()) {
		return false
	}
	if _, err := os.Stat(f.node.ResultFile(c.Pod.UID, c.Name)); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	var more []string
	if socket := values["console-socket"]; socket != "" {
		more = append(more, "--console-socket", socket)
	}
	c.Restored = true
	if err := engine.Remember(f.node, c); err == nil { // a stop signal may come before this call has returned
		err = e.Restore(context.Background(), engine.RestoreOptions{Container: c, Directory: decision.Directory, More: more})
		if err == nil {
			return true
		}
	}
	c.Restored = false
	return false
}
