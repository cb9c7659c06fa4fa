package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestAContainerIsShownItsOwnGroups(t *testing.T) {
	mounts, err := groupMounts(specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Options: []string{"nosuid", "rbind", "ro"}}, "/kubepods/pod1/c1")
	if err != nil {
		t.Fatal(err)
	}
	if m := mounts[0]; m.Type != "tmpfs" || m.Destination != "/sys/fs/cgroup" {
		t.Errorf("the first is %+v", m)
	}
	for _, m := range mounts[1:] {
		name := filepath.Base(m.Destination)
		if m.Type != "bind" || m.Source != "/sys/fs/cgroup/"+name+"/kubepods/pod1/c1" || strings.Join(m.Options, ",") != "bind,nosuid,ro" {
			t.Errorf("%s is %+v", name, m)
		}
	}
}

func TestASpecWithoutControlGroupsStays(t *testing.T) {
	bundle := Bundle{t.TempDir()}
	const text = `{"mounts":[{"destination":"/proc","type":"proc"}],"unknown":1}`
	if err := os.WriteFile(bundle.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, _, err := bundle.Spec()
	if err != nil {
		t.Fatal(err)
	}
	back, err := bundle.showOwnGroups(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := back(); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(bundle.config()); err != nil || string(data) != text {
		t.Errorf("it is %s, %v", data, err)
	}
}

func TestWhatAnAuthorTellsCRIUIsOverwritten(t *testing.T) {
	node := capture.Node{Root: t.TempDir()}
	bundle := Bundle{t.TempDir()}
	if err := os.WriteFile(bundle.config(), []byte(`{"annotations":{"org.criu.config":"/etc/evil","kept":"yes"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := bundle.Prepare(node, capture.Settings{}); err != nil {
		t.Fatal(err)
	}
	spec, _, err := bundle.Spec()
	if err != nil {
		t.Fatal(err)
	}
	if got := spec.Annotations["org.criu.config"]; got != filepath.Join(node.Root, "run/checkpoint/criu.conf") || spec.Annotations["kept"] != "yes" {
		t.Errorf("the annotations are %v", spec.Annotations)
	}
}
