package install

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

const runtimes = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes"

func TestOurHandlersAreCopies(t *testing.T) {
	const text = `
		plugins.'io.containerd.cri.v1.runtime'.containerd.default_runtime_name = 'mine'
		[` + runtimes + `.mine]
		runtime_type = 'io.containerd.runc.v2'
		snapshotter = 'native'
		pod_annotations = ['example.com/*']
		[` + runtimes + `.mine.options]
		BinaryName = '/usr/bin/mine'
		SystemdCgroup = true
		[` + runtimes + `.nvidia]
		runtime_type = 'io.containerd.runc.v2'
		pod_annotations = ['memverge.ai/*', 'example.com/*']
		[` + runtimes + `.transparent-checkpoint-nvidia]
		runtime_type = 'io.containerd.runc.v2'
		[` + runtimes + `.other]
		runtime_type = 'io.containerd.kata.v2'`
	config := parse(t, []byte(text))
	got, err := deriveHandlers(config, capture.DefaultHome)
	if err != nil {
		t.Fatal(err)
	}
	want := []handler{
		{name: "transparent-checkpoint", below: "/usr/bin/mine", table: map[string]any{
			"runtime_type": "io.containerd.runc.v2", "snapshotter": "native", "pod_annotations": []any{"example.com/*", "memverge.ai/*"},
			"options": map[string]any{"BinaryName": "/opt/checkpoint/bin/checkpoint-runtime", "SystemdCgroup": true},
		}},
		{name: "transparent-checkpoint-nvidia", variant: "nvidia", below: "runc", table: map[string]any{
			"runtime_type": "io.containerd.runc.v2", "pod_annotations": []any{"memverge.ai/*", "example.com/*"},
			"options": map[string]any{"BinaryName": "/opt/checkpoint/bin/checkpoint-runtime-nvidia"},
		}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(handler{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(parse(t, []byte(text)), config); diff != "" {
		t.Errorf("those of the node were changed (-want +got)\n%s", diff)
	}
}

func TestADefaultHandlerThatCannotBeCopied(t *testing.T) {
	for what, test := range map[string]struct{ config, err string }{
		"of another kind": {
			config: `
				plugins.'io.containerd.cri.v1.runtime'.containerd.default_runtime_name = 'kata'
				[` + runtimes + `.kata]
				runtime_type = 'io.containerd.kata.v2'`,
			err: `runtimes.kata.runtime_type is "io.containerd.kata.v2"; it may be io.containerd.runc.v2`,
		},
		"that is not there": {
			config: `plugins.'io.containerd.cri.v1.runtime'.containerd.default_runtime_name = 'runc'`,
			err:    `default_runtime_name is "runc", and runtimes has no such table`,
		},
	} {
		if _, err := deriveHandlers(parse(t, []byte(test.config)), capture.DefaultHome); err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("one %s: it says %v, want %q", what, err, test.err)
		}
	}
}

// TestAnotherOCIRuntimeIsRefused: one that is not runc is found out before a node gets labelled pods, and not when the first is to be captured.
func TestAnotherOCIRuntimeIsRefused(t *testing.T) {
	for says, fits := range map[string]bool{
		"runc version 1.5.2\nspec: 1.3.0\n":                                                   true,
		"NVIDIA Container Runtime version 1.18.0\ncommit: 1\nrunc version 1.3.0\nspec: 1.2\n": true,
		"crun version 1.21\ncommit: 1\n+SYSTEMD +CRIU\n":                                      false,
		"": false,
	} {
		err := isRunc("/usr/bin/other", says)
		if fits != (err == nil) || !fits && !strings.Contains(err.Error(), "/usr/bin/other") {
			t.Errorf("%q: %v", says, err)
		}
	}
}

func TestTheUnitOfAProcess(t *testing.T) {
	for groups, want := range map[string]string{
		"0::/system.slice/containerd.service\n":                 "containerd.service",
		"12:pids:/system.slice/k3s-agent.service\n0::/\n":       "k3s-agent.service",
		"0::/system.slice/rke2-server.service/deep\n":           "rke2-server.service",
		"0::/kubelet.slice/kubelet-containerd.slice/init.scope": "",
	} {
		if got := unitIn(groups); got != want {
			t.Errorf("%q: %q, want %q", groups, got, want)
		}
	}
}

func TestTheHandlersThatAnOldContainerdRunsWith(t *testing.T) {
	got := handlersIn(`{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"runtimeType":"io.containerd.runc.v2"}}}}`)
	if diff := cmp.Diff([]string{"runc"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
