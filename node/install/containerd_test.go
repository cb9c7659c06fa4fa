package install

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
)

// parse reads a configuration as containerd dumps it.
func parse(t *testing.T, text string) (config map[string]any) {
	t.Helper()
	if err := toml.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	return config
}

const runtimes = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes"

func TestOurHandlerIsACopyOfTheDefaultOne(t *testing.T) {
	for what, test := range map[string]struct {
		config, runtime, dropIn string
	}{
		"with options and annotations of its own": {
			config: `
				plugins.'io.containerd.cri.v1.runtime'.containerd.default_runtime_name = 'mine'
				[` + runtimes + `.mine]
				runtime_type = 'io.containerd.runc.v2'
				snapshotter = 'native'
				pod_annotations = ['example.com/*']
				[` + runtimes + `.mine.options]
				BinaryName = '/usr/bin/crun'
				SystemdCgroup = true
				[` + runtimes + `.other]
				runtime_type = 'io.containerd.kata.v2'`,
			runtime: "/usr/bin/crun",
			dropIn: `
				version = 3
				[` + runtimes + `.transparent-checkpoint]
				runtime_type = 'io.containerd.runc.v2'
				snapshotter = 'native'
				pod_annotations = ['example.com/*', 'memverge.ai/*']
				[` + runtimes + `.transparent-checkpoint.options]
				BinaryName = '/opt/checkpoint/bin/checkpoint-runtime'
				SystemdCgroup = true`,
		},
		"as containerd comes": {
			config: `
				plugins.'io.containerd.cri.v1.runtime'.containerd.default_runtime_name = 'runc'
				[` + runtimes + `.runc]
				runtime_type = 'io.containerd.runc.v2'
				[` + runtimes + `.runc.options]
				BinaryName = ''`,
			runtime: "runc",
			dropIn: `
				version = 3
				[` + runtimes + `.transparent-checkpoint]
				runtime_type = 'io.containerd.runc.v2'
				pod_annotations = ['memverge.ai/*']
				options.BinaryName = '/opt/checkpoint/bin/checkpoint-runtime'`,
		},
		"that shows our annotations already, and has no options": {
			config: `
				plugins.'io.containerd.cri.v1.runtime'.containerd.default_runtime_name = 'runc'
				[` + runtimes + `.runc]
				runtime_type = 'io.containerd.runc.v2'
				pod_annotations = ['memverge.ai/*', 'example.com/*']`,
			runtime: "runc",
			dropIn: `
				version = 3
				[` + runtimes + `.transparent-checkpoint]
				runtime_type = 'io.containerd.runc.v2'
				pod_annotations = ['memverge.ai/*', 'example.com/*']
				options.BinaryName = '/opt/checkpoint/bin/checkpoint-runtime'`,
		},
	} {
		t.Run(what, func(t *testing.T) {
			config := parse(t, test.config)
			handler, err := deriveHandler(config, 3)
			if err != nil {
				t.Fatal(err)
			}
			if handler.Runtime != test.runtime {
				t.Errorf("it stands before %q, want %q", handler.Runtime, test.runtime)
			}
			if diff := cmp.Diff(parse(t, test.dropIn), parse(t, string(handler.DropIn))); diff != "" {
				t.Errorf("drop-in (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(parse(t, test.config), config); diff != "" {
				t.Errorf("the default one was changed (-want +got)\n%s", diff)
			}
			if again, err := deriveHandler(config, 3); err != nil || string(again.DropIn) != string(handler.DropIn) {
				t.Errorf("the second time it is another one (%v), and containerd would be restarted for it", err)
			}
		})
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
		"of containerd 1.7": {
			config: `plugins.'io.containerd.grpc.v1.cri'.containerd.default_runtime_name = 'runc'`,
			err:    `default_runtime_name is "", and runtimes has no such table`,
		},
	} {
		if _, err := deriveHandler(parse(t, test.config), 3); err == nil || !strings.Contains(err.Error(), test.err) {
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
		err := checkRuntime("/usr/bin/other", says)
		if fits != (err == nil) || !fits && !strings.Contains(err.Error(), "/usr/bin/other") {
			t.Errorf("%q: %v", says, err)
		}
	}
}
