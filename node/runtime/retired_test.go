package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

func TestWhatContainerRuntimesSayOfAContainer(t *testing.T) {
	for what, test := range map[string]struct {
		annotations map[string]string
		want        facts
	}{
		"containerd": {
			map[string]string{containerType: "container", containerName: "app", sandboxID: "s", sandboxName: "pod", sandboxNamespace: "ns", sandboxUID: "uid",
				imageName: "image"},
			facts{container: "app", sandboxID: "s", image: "image", pod: capture.Pod{Namespace: "ns", Name: "pod", UID: "uid"}, fromAContainerRuntime: true},
		},
		"CRI-O": {
			map[string]string{crioContainerType: "sandbox", crioSandboxID: "s", labelPod: "pod", labelNamespace: "ns", labelUID: "uid"},
			facts{sandbox: true, sandboxID: "s", pod: capture.Pod{Namespace: "ns", Name: "pod", UID: "uid"}, fromAContainerRuntime: true},
		},
		"CRI-O, whose pod's author plays containerd": {
			map[string]string{crioContainerType: "container", containerType: "container", containerName: "app", sandboxUID: "victim", sandboxNamespace: "other",
				labelUID: "uid", labelPod: "pod", labelNamespace: "ns", labelContainer: "app"},
			facts{},
		},
		"CRI-O, whose pod's author names the container": {
			map[string]string{crioContainerType: "container", crioSandboxID: "s", containerName: "../../x", labelContainer: "app", labelUID: "uid",
				labelPod: "pod", labelNamespace: "ns"},
			facts{container: "app", sandboxID: "s", pod: capture.Pod{Namespace: "ns", Name: "pod", UID: "uid"}, fromAContainerRuntime: true},
		},
		"nobody": {map[string]string{labelUID: "uid"}, facts{}},
	} {
		if diff := cmp.Diff(test.want, factsOf(test.annotations), cmp.AllowUnexported(facts{})); diff != "" {
			t.Errorf("%s (-want +got)\n%s", what, diff)
		}
	}
}

// passing is a front whose OCI runtime cannot be called, so that pass comes back with an error.
func passing(t *testing.T, root string, args ...string) *front {
	t.Helper()
	f := &front{node: capture.Node{Root: root}, args: args, words: parse(args), self: "/bin/true"}
	f.config.Runtime = filepath.Join(root, "no-such-runtime")
	return f
}

// TestARetiredRuntimeKeepsAccountOfSandboxes: it passes everything on, notes the sandboxes that come, and forgets those that go.
func TestARetiredRuntimeKeepsAccountOfSandboxes(t *testing.T) {
	root := t.TempDir()
	node := capture.Node{Root: root}
	if err := node.NoteSandbox("before"); err != nil {
		t.Fatal(err)
	}
	bundle := func(kind string) string {
		dir := t.TempDir()
		spec, err := json.Marshal(specs.Spec{Annotations: map[string]string{containerType: kind, sandboxUID: "uid"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), spec, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, step := range []struct {
		args []string
		want []string
	}{
		{[]string{"create", "--bundle", bundle("sandbox"), "again"}, []string{"again", "before"}},
		{[]string{"create", "--bundle", bundle("container"), "app"}, []string{"again", "before"}},
		{[]string{"kill", "app", "TERM"}, []string{"again", "before"}},
		{[]string{"delete", "app"}, []string{"again", "before"}},
		{[]string{"delete", "before"}, []string{"again"}},
		{[]string{"delete", "again"}, nil},
	} {
		if err := passing(t, root, step.args...).retired(); err == nil {
			t.Errorf("%v was not passed on", step.args)
		}
		entries, err := os.ReadDir(node.Retired())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, entry := range entries {
			got = append(got, entry.Name())
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("after %v (-want +got)\n%s", step.args, diff)
		}
	}
}

func TestTheNameByWhichItWasCalledSaysForWhichHandler(t *testing.T) {
	config := capture.RuntimeConfig{Runtime: "/usr/bin/runc", Runtimes: map[string]string{"nvidia": "/usr/bin/nvidia-container-runtime"}}
	for program, want := range map[string]string{
		"/opt/checkpoint/bin/checkpoint-runtime": "/usr/bin/runc", "/opt/checkpoint/bin/checkpoint-runtime-nvidia": "/usr/bin/nvidia-container-runtime",
		"checkpoint-runtime": "/usr/bin/runc", "checkpoint-runtime-kata": "",
	} {
		got, err := config.For(program)
		if got.Runtime != want || (want == "") != (err != nil) {
			t.Errorf("%s: %q, %v", program, got.Runtime, err)
		}
	}
	for program, want := range map[string]string{
		"/opt/checkpoint/versions/1234/bin/checkpoint-runtime": "/opt/checkpoint", "/opt/checkpoint/bin/checkpoint-runtime": "/opt/checkpoint",
	} {
		if got := capture.HomeOf(program); got != want {
			t.Errorf("home of %s is %q", program, got)
		}
	}
}
