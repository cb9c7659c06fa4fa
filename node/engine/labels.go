package engine

import (
	"errors"
	"os"
	"path/filepath"

	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
)

// adaptLabels has processes that a security module confined be restored where the node has none of that kind: CRIU refuses any label there, and the new
// container has none.
func adaptLabels(images string, spec *specs.Spec) error {
	if p := spec.Process; p != nil && (p.ApparmorProfile != "" || p.SelinuxLabel != "") || hasLabels() {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(images, "core-*.img"))
	for _, file := range files {
		err = errors.Join(err, rewriteImage(file, maxCoreSize, withoutLabels))
	}
	return err
}

// hasLabels tells whether this node has a security module whose labels CRIU restores. It looks at the same folders.
func hasLabels() bool {
	for _, folder := range []string{"/sys/kernel/security/apparmor", "/sys/fs/selinux"} {
		if _, err := os.Stat(folder); err == nil {
			return true
		}
	}
	return false
}

func withoutLabels(image []byte) ([]byte, error) {
	return mapEntries(image, func(entry []byte) ([]byte, error) {
		core := &criucore.CoreEntry{}
		if err := proto.Unmarshal(entry, core); err != nil {
			return nil, err
		}
		creds := core.GetThreadCore().GetCreds()
		if creds.GetLsmProfile() == "" && creds.GetLsmSockcreate() == "" {
			return entry, nil
		}
		creds.LsmProfile, creds.LsmSockcreate = nil, nil
		return proto.Marshal(core)
	})
}
