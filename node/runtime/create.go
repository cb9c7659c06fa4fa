package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/node/engine"
)

// create makes the sandbox of a labelled pod wait for the decision, and restores its containers when the decision says so. Whatever
// goes wrong with a restore, the container is created.
func (f *front) create() error {
	operands, values := f.words.operands()
	if len(operands) != 1 {
		return f.pass()
	}
	dir, err := filepath.Abs(bundleIn(values))
	if err != nil {
		return err
	}
	bundle := engine.Bundle{Dir: dir}
	spec, digest, err := bundle.Spec()
	if err != nil {
		return f.pass() // whose error is better
	}
	value, labelled := spec.Annotations[keys.Effective]
	if !labelled || !factsOf(spec.Annotations).fromAContainerRuntime {
		return f.pass()
	}
	settings, err := capture.ParseSettings(value)
	if err != nil {
		return err
	}
	c := f.record(operands[0], dir, values["pid-file"], spec)
	if sharesWithNode(spec) {
		return f.pass()
	}
	c.Settings, c.SpecDigest = settings, digest
	if factsOf(spec.Annotations).sandbox {
		return f.createSandbox(c)
	}
	return f.createContainer(c, bundle, values)
}

// sharesWithNode tells whether a container lives in a namespace of the node, or shares its processes: what we do to a pod's network and shared
// memory must not happen there. Admission leaves such pods alone; this is for those that came by another way.
func sharesWithNode(spec *specs.Spec) bool {
	if spec.Linux == nil {
		return true
	}
	has := map[specs.LinuxNamespaceType]bool{}
	for _, namespace := range spec.Linux.Namespaces {
		file, known := map[specs.LinuxNamespaceType]string{
			specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.PIDNamespace: "pid",
		}[namespace.Type]
		if !known {
			continue
		}
		has[namespace.Type] = true
		if namespace.Path == "" {
			continue
		}
		if namespace.Type == specs.PIDNamespace { // another container's: whose processes are whose cannot be told
			return true
		}
		theirs, err := os.Stat(namespace.Path)
		own, ownErr := os.Stat("/proc/self/ns/" + file)
		if err != nil || ownErr != nil || os.SameFile(theirs, own) {
			return true
		}
	}
	return !has[specs.NetworkNamespace] || !has[specs.IPCNamespace] || !has[specs.PIDNamespace]
}

// record says of a new container what its capture will need to know.
func (f *front) record(id, bundle, pidFile string, spec *specs.Spec) *engine.Container {
	says := factsOf(spec.Annotations)
	c := &engine.Container{
		ID: id, Name: says.container, Bundle: bundle, PIDFile: pidFile, Image: says.image, Sandbox: says.sandboxID, Pod: says.pod,
		Runtime: f.config.Runtime, CRIUDirectory: f.config.CRIUDirectory, Global: f.words.global, Volumes: map[string]string{}, Own: map[string]string{},
	}
	if !filepath.IsAbs(pidFile) {
		c.PIDFile = filepath.Join(bundle, pidFile)
	}
	volumes := filepath.Join(f.config.KubeletRoot, "pods", c.Pod.UID, "volumes/kubernetes.io~empty-dir")
	subPaths := filepath.Join(f.config.KubeletRoot, "pods", c.Pod.UID, "volume-subpaths")
	if entries, err := os.ReadDir(volumes); err == nil {
		for _, entry := range entries {
			c.Volumes[entry.Name()] = filepath.Join(volumes, entry.Name())
		}
	}
	for _, mount := range spec.Mounts {
		if mount.Destination == "/dev/shm" && mount.Type == "bind" {
			c.Shm = mount.Source
		}
		for _, root := range []string{volumes, subPaths} {
			if name, inside := strings.CutPrefix(mount.Source, root+"/"); inside {
				name, _, _ = strings.Cut(name, "/")
				c.Mounted = append(c.Mounted, name)
			}
		}
		if f.isOwn(c.Pod.UID, mount) {
			c.Own[filepath.Clean(mount.Destination)] = mount.Source
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

// ofThePod are the kinds of volumes that kubelet fills for each pod, by the names of its plugins.
var ofThePod = []string{"kubernetes.io~configmap", "kubernetes.io~secret", "kubernetes.io~projected", "kubernetes.io~downward-api"}

// isOwn tells whether what a mount shows is made anew for every pod: by kubelet, as configuration, hosts file and termination log, or by the
// container runtime, as host name and resolvers.
func (f *front) isOwn(podUID string, mount specs.Mount) bool {
	pod := filepath.Join(f.config.KubeletRoot, "pods", podUID)
	inside, ofKubelet := strings.CutPrefix(mount.Source, pod+"/")
	if !ofKubelet {
		return mount.Type == "bind" && slices.Contains([]string{"/etc/hostname", "/etc/resolv.conf"}, mount.Destination)
	}
	words := strings.Split(inside, "/")
	switch {
	case words[0] == "volumes" && len(words) > 1:
		return slices.Contains(ofThePod, words[1])
	case words[0] == "volume-subpaths" && len(words) > 1:
		return slices.ContainsFunc(ofThePod, func(kind string) bool {
			_, err := os.Stat(filepath.Join(pod, "volumes", kind, words[1]))
			return err == nil
		})
	}
	return words[0] == "etc-hosts" || words[0] == "containers"
}

func (f *front) createSandbox(c *engine.Container) error {
	if c.Network != "" {
		if err := engine.DisableMultipathTCP(c.Network); err != nil {
			f.engine(c.Pod).Log("multipath TCP stays on: %v", err)
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
	e := f.engine(c.Pod)
	if !c.Selected() {
		if err := engine.Remember(f.node, c); err != nil {
			return err
		}
		return f.pass()
	}
	if err := e.PodGoesOn(c); err != nil {
		return err
	}
	if err := bundle.Prepare(f.node, c.Settings); err != nil {
		return err
	}
	if err := e.UndoCutOff(c); err != nil {
		return err
	}
	if restored, err := f.restore(e, c, values); restored || err != nil {
		return err
	}
	if err := engine.Remember(f.node, c); err != nil {
		return err
	}
	return f.pass()
}
