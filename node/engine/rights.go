package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// securityOf returns what a spec allows its container.
func securityOf(spec *specs.Spec) (*capture.Security, error) {
	s := &capture.Security{Capabilities: map[string][]string{}, Mounts: map[string][]string{}}
	if p := spec.Process; p != nil {
		s.UID, s.GID, s.Groups = p.User.UID, p.User.GID, p.User.AdditionalGids
		s.NoNewPrivileges, s.AppArmor, s.SELinux = p.NoNewPrivileges, p.ApparmorProfile, p.SelinuxLabel
		if c := p.Capabilities; c != nil {
			s.Capabilities = map[string][]string{
				"bounding": c.Bounding, "effective": c.Effective, "permitted": c.Permitted, "inheritable": c.Inheritable, "ambient": c.Ambient,
			}
		}
	}
	s.ReadOnlyRoot = spec.Root != nil && spec.Root.Readonly
	for _, mount := range spec.Mounts {
		if mount.Type == "bind" || slices.Contains(mount.Options, "rbind") || slices.Contains(mount.Options, "bind") {
			s.Mounts[mount.Destination] = restrictions(mount.Options)
		}
	}
	if spec.Linux == nil {
		return s, nil
	}
	s.Masked, s.ReadOnly = spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths
	if filter := spec.Linux.Seccomp; filter != nil && !onlyWithholds(filter) {
		text, err := json.Marshal(filter)
		if err != nil {
			return nil, fmt.Errorf("seccomp: %w", err)
		}
		sum := sha256.Sum256(text)
		s.Seccomp = "sha256:" + hex.EncodeToString(sum[:])
	}
	return s, nil
}

// restrictions are those of a mount's options that take something away.
func restrictions(options []string) []string {
	found := []string{}
	for _, option := range options {
		option = strings.TrimPrefix(option, "r") // rro is ro, for all below
		if option == "o" {
			option = "ro"
		}
		if slices.Contains([]string{"ro", "nosuid", "nodev", "noexec"}, option) && !slices.Contains(found, option) {
			found = append(found, option)
		}
	}
	slices.Sort(found)
	return found
}

// checkSpecs returns a MismatchError unless what a captured container was allowed is allowed to the new one.
func checkSpecs(captured, now *capture.Security) error {
	if captured == nil {
		return &MismatchError{Message: "the capture does not say what its container was allowed"}
	}
	if captured.UID != now.UID {
		return specMismatch("runAsUser", fmt.Sprint(captured.UID), fmt.Sprint(now.UID))
	}
	if captured.GID != now.GID {
		return specMismatch("runAsGroup", fmt.Sprint(captured.GID), fmt.Sprint(now.GID))
	}
	for _, group := range captured.Groups {
		if group != now.GID && !slices.Contains(now.Groups, group) {
			return specMismatch("supplementalGroups or fsGroup", fmt.Sprint(group), fmt.Sprint(now.Groups))
		}
	}
	for _, set := range slices.Sorted(maps.Keys(captured.Capabilities)) {
		for _, name := range captured.Capabilities[set] {
			if !slices.Contains(now.Capabilities[set], name) {
				return specMismatch("capabilities ("+set+")", name, fmt.Sprint(now.Capabilities[set]))
			}
		}
	}
	if now.NoNewPrivileges && !captured.NoNewPrivileges {
		return specMismatch("allowPrivilegeEscalation", "true", "false")
	}
	if now.ReadOnlyRoot && !captured.ReadOnlyRoot {
		return specMismatch("readOnlyRootFilesystem", "false", "true")
	}
	if now.Seccomp != "" && now.Seccomp != captured.Seccomp {
		return specMismatch("seccompProfile", orNone(captured.Seccomp), now.Seccomp)
	}
	return checkConfinement(captured, now)
}

// checkConfinement compares what hides or protects files. CRIU gives the new container's label to processes that had one, and to no others.
func checkConfinement(captured, now *capture.Security) error {
	if now.AppArmor != "" && captured.AppArmor == "" {
		return specMismatch("appArmorProfile", "none", now.AppArmor)
	}
	if now.SELinux != "" && captured.SELinux == "" {
		return specMismatch("seLinuxOptions", "none", now.SELinux)
	}
	for _, path := range now.Masked {
		if !slices.Contains(captured.Masked, path) {
			return specMismatch("procMount", path+" visible", path+" masked")
		}
	}
	for _, path := range now.ReadOnly {
		if !slices.Contains(captured.ReadOnly, path) {
			return specMismatch("procMount", path+" writable", path+" read-only")
		}
	}
	for _, path := range slices.Sorted(maps.Keys(now.Mounts)) {
		had, mounted := captured.Mounts[path]
		if !mounted {
			return fmt.Errorf("the new container mounts %s, which the captured one does not", path)
		}
		for _, option := range now.Mounts[path] {
			if !slices.Contains(had, option) {
				return specMismatch("volumeMount "+path, fmt.Sprint(had), fmt.Sprint(now.Mounts[path]))
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(captured.Mounts)) {
		if _, mounted := now.Mounts[path]; !mounted {
			return fmt.Errorf("the captured container mounts %s, which the new one does not", path)
		}
	}
	return nil
}

func specMismatch(field, had, has string) error {
	return &MismatchError{Message: fmt.Sprintf("%s of the captured container was %s; the new container's is %s", field, had, has)}
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// labelWords are the words for an OCI runtime's restore that give processes and mounts the labels of the new container: its own, as
// SELinux tells containers apart by them.
func labelWords(spec *specs.Spec) []string {
	var words []string
	if p := spec.Process; p != nil {
		switch {
		case p.SelinuxLabel != "":
			words = append(words, "--lsm-profile", "selinux:"+p.SelinuxLabel)
		case p.ApparmorProfile != "":
			words = append(words, "--lsm-profile", "apparmor:"+p.ApparmorProfile)
		}
	}
	if spec.Linux != nil && spec.Linux.MountLabel != "" {
		words = append(words, "--lsm-mount-context", spec.Linux.MountLabel)
	}
	return words
}
