package export

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// config is config.dump, as far as a capture knows it.
type config struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	RootfsImage     string    `json:"rootfsImage,omitempty"`
	RootfsImageName string    `json:"rootfsImageName,omitempty"`
	Runtime         string    `json:"runtime,omitempty"`
	CreatedTime     time.Time `json:"createdTime"`
	CheckpointedAt  time.Time `json:"checkpointedTime"`
	RestoredAt      time.Time `json:"restoredTime"`
	Restored        bool      `json:"restored"`
}

// The annotations by which containerd says whose a container is
// (https://github.com/containerd/containerd/blob/main/internal/cri/annotations/annotations.go).
const (
	containerType    = "io.kubernetes.cri.container-type"
	containerName    = "io.kubernetes.cri.container-name"
	imageName        = "io.kubernetes.cri.image-name"
	sandboxName      = "io.kubernetes.cri.sandbox-name"
	sandboxNamespace = "io.kubernetes.cri.sandbox-namespace"
	sandboxUID       = "io.kubernetes.cri.sandbox-uid"
)

// metadata returns config.dump and spec.dump of a container.
func (p *Pod) metadata(c *capture.Container) (configJSON, specJSON []byte, err error) {
	configJSON, err = json.MarshalIndent(config{
		ID: c.ID, Name: c.Name, RootfsImage: c.Image, RootfsImageName: c.Image, Runtime: keys.RuntimeClass, CheckpointedAt: p.checkpointed(),
	}, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	spec := specs.Spec{Version: specs.Version, Annotations: map[string]string{
		containerType: "container", containerName: c.Name, imageName: c.Image,
		sandboxName: p.record.Pod.Name, sandboxNamespace: p.record.Pod.Namespace, sandboxUID: p.record.Pod.UID,
	}}
	if c.Security != nil {
		describe(&spec, c.Security)
	}
	specJSON, err = json.MarshalIndent(spec, "", "  ")
	return configJSON, specJSON, err
}

// describe adds what a container may do to its spec.
func describe(spec *specs.Spec, s *capture.Security) {
	of := func(set string) []string { return s.Capabilities[set] }
	spec.Process = &specs.Process{
		User: specs.User{UID: s.UID, GID: s.GID, AdditionalGids: s.Groups}, NoNewPrivileges: s.NoNewPrivileges, ApparmorProfile: s.AppArmor, SelinuxLabel: s.SELinux,
		Capabilities: &specs.LinuxCapabilities{
			Bounding: of("bounding"), Effective: of("effective"), Permitted: of("permitted"), Inheritable: of("inheritable"), Ambient: of("ambient"),
		},
	}
	spec.Root = &specs.Root{Readonly: s.ReadOnlyRoot}
	spec.Linux = &specs.Linux{MaskedPaths: s.Masked, ReadonlyPaths: s.ReadOnly}
	for _, destination := range slices.Sorted(maps.Keys(s.Mounts)) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: destination, Type: "bind", Options: s.Mounts[destination]})
	}
}
