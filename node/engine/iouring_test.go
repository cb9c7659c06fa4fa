package engine

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

const (
	allIOUring = `"io_uring_setup","io_uring_enter","io_uring_register"`
	refused    = `{"names":[` + allIOUring + `],"action":"SCMP_ACT_ERRNO","errnoRet":38}`
)

func TestIOUringIsWithheldAndNothingElseChanges(t *testing.T) {
	for what, test := range map[string]struct{ profile, want string }{
		"a profile that refuses what it does not name, and knows newer calls, refuses it with ENOSYS": {
			`{"defaultAction":"SCMP_ACT_ERRNO","flags":["a"],"listenerPath":"/l","syscalls":[{"names":["read","clone3"],"action":"SCMP_ACT_ALLOW"}]}`,
			`{"defaultAction":"SCMP_ACT_ERRNO","flags":["a"],"listenerPath":"/l","syscalls":[{"names":["read","clone3"],"action":"SCMP_ACT_ALLOW"},` + refused + `]}`,
		},
		"an older one, for which runc answers ENOSYS, stays": {
			`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`,
			`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`,
		},
		"a rule that allows it among others loses it": {
			`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read",` + allIOUring + `,"write"],"action":"SCMP_ACT_ALLOW","x":1}]}`,
			`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW","x":1},` + refused + `]}`,
		},
		"one that allows it alone goes, and so does one that asks a supervisor": {
			`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["io_uring_setup"],"action":"SCMP_ACT_ALLOW"},` +
				`{"names":["io_uring_enter"],"action":"SCMP_ACT_NOTIFY"}]}`,
			`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["io_uring_setup","io_uring_enter"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}`,
		},
		"a profile that allows what it does not name refuses it": {
			`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO"}]}`,
			`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ERRNO"},` + refused + `]}`,
		},
		"a process that is ended for it still is": {
			`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["io_uring_setup"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0}]}]}`,
			`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["io_uring_setup"],"action":"SCMP_ACT_KILL_PROCESS"},` +
				`{"names":["io_uring_enter","io_uring_register"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}`,
		},
		"also where it is ended for all that the profile does not name": {
			`{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["io_uring_enter"],"action":"SCMP_ACT_ALLOW"},` +
				`{"names":["io_uring_setup"],"action":"SCMP_ACT_ALLOW","args":[{"index":1}]}]}`,
			`{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["io_uring_setup"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"args":[{"index":1}]},` +
				`{"names":["io_uring_enter"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}`,
		},
		"without a profile there is one for it alone": {
			`null`, `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],"syscalls":[` + refused + `]}`,
		},
	} {
		t.Run(what, func(t *testing.T) {
			spec := map[string]any{}
			if err := json.Unmarshal([]byte(`{"linux":{"seccomp":`+test.profile+`}}`), &spec); err != nil {
				t.Fatal(err)
			}
			withholdIOUring(spec)
			got, err := json.Marshal(spec["linux"].(map[string]any)["seccomp"])
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(parsed(t, test.want), parsed(t, string(got))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			profile := &specs.LinuxSeccomp{}
			if err := json.Unmarshal(got, profile); err != nil {
				t.Fatal(err)
			}
			if only := onlyWithholds(profile); only != (test.profile == "null") {
				t.Errorf("it is taken for one that does nothing else: %t", only)
			}
		})
	}
}

func parsed(t *testing.T, text string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestIOUringIsWithheldUnlessItIsAllowed(t *testing.T) {
	for _, allow := range []bool{false, true} {
		bundle, node := Bundle{t.TempDir()}, capture.Node{Root: t.TempDir()}
		if err := capture.WriteJSON(bundle.config(), map[string]any{"linux": map[string]any{}}); err != nil {
			t.Fatal(err)
		}
		if err := bundle.Prepare(node, capture.Settings{AllowIOUring: allow}); err != nil {
			t.Fatal(err)
		}
		spec, _, err := bundle.Spec()
		if err != nil {
			t.Fatal(err)
		}
		if withheld := spec.Linux.Seccomp != nil; withheld == allow {
			t.Errorf("allowed: %t, withheld: %t", allow, withheld)
		}
	}
}
