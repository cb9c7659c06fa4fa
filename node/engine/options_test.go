package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// collecting is an engine whose log is what it returns.
func collecting(t *testing.T) (e *Engine, log *[]string) {
	t.Helper()
	e, log = quiet(t), &[]string{}
	e.Log = func(format string, args ...any) { *log = append(*log, fmt.Sprintf(format, args...)) }
	return e, log
}

func optionsOf(dump, restore []string) capture.Settings {
	return capture.Settings{OfContainers: map[string]capture.ContainerSettings{"app": {CheckpointOptions: dump, RestoreOptions: restore}}}
}

func TestOnlyListedOptionsGetToADump(t *testing.T) {
	patience, limit := "timeout 30", "ghost-limit "+fmt.Sprint(capture.GhostLimit)
	for what, test := range map[string]struct {
		options []string
		want    asked
		refused int
	}{
		"nothing":                   {want: asked{lines: []string{patience, limit}}},
		"a limit":                   {options: []string{"ghost-limit 4194304"}, want: asked{lines: []string{patience, "ghost-limit 4194304"}}},
		"two limits":                {options: []string{"ghost-limit 1", "ghost-limit 2M"}, want: asked{lines: []string{patience, "ghost-limit 2097152"}}},
		"closed connections, twice": {options: []string{"tcp-close", "tcp-close"}, want: asked{lines: []string{patience, limit, "tcp-close"}}},
		"what the runtime must pass on": {
			options: []string{"ext-unix-sk", "shell-job", "shell-job"}, want: asked{[]string{patience, limit}, []string{"--ext-unix-sk", "--shell-job"}},
		},
		"what is said anyway": {options: []string{"link-remap", "file-locks", "skip-in-flight"}, want: asked{lines: []string{patience, limit}}},
		"what runs programs": {
			options: []string{"action-script /evil", "plugin", "config /evil", "exec-cmd", "lsm-profile apparmor:unconfined", "--tcp-close", ""},
			want:    asked{lines: []string{patience, limit}}, refused: 7,
		},
		"a line that hides another": {
			options: []string{"tcp-close\naction-script /evil", "ghost-limit 1\naction-script /evil", "ghost-limit 1M1", "ghost-limit -1", "ghost-limit 0"},
			want:    asked{lines: []string{patience, limit}}, refused: 5,
		},
	} {
		t.Run(what, func(t *testing.T) {
			e, log := collecting(t)
			got := e.dumpOptions(optionsOf(test.options, nil), "app")
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(asked{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(*log) != test.refused {
				t.Errorf("it refuses %q", *log)
			}
			if other := e.dumpOptions(optionsOf(test.options, nil), "other"); !slices.Equal(other.lines, []string{patience, limit}) || other.words != nil {
				t.Errorf("another container gets %+v", other)
			}
		})
	}
}

func TestARestoreSaysWhatItsDumpNeeds(t *testing.T) {
	for what, test := range map[string]struct {
		restore, dump []string
		want          asked
		refused       int
	}{
		"nothing":             {},
		"closed connections":  {restore: []string{"tcp-close"}, want: asked{lines: []string{"tcp-close"}}},
		"what is said anyway": {restore: []string{"tcp-established", "file-locks", "skip-in-flight", "link-remap"}},
		"what is of a dump":   {restore: []string{"shell-job", "ghost-limit 5"}, refused: 2},
		"a dump without connections": {
			restore: []string{"tcp-close"}, dump: []string{"tcp-close", "ghost-limit 5", "link-remap", "shell-job", "ext-unix-sk", "plugin x"},
			want: asked{[]string{"tcp-close"}, []string{"--shell-job", "--ext-unix-sk"}},
		},
	} {
		t.Run(what, func(t *testing.T) {
			e, log := collecting(t)
			got := e.restoreOptions(optionsOf(nil, test.restore), optionsOf(test.dump, nil), "app")
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(asked{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(*log) != test.refused {
				t.Errorf("it refuses %q", *log)
			}
		})
	}
}

func TestOptionsGetToCRIUByAFile(t *testing.T) {
	work := t.TempDir()
	oci, err := asked{}.of(OCI{}, work)
	if err != nil || oci.CRIUOptions != "" {
		t.Errorf("without options it is %q, %v", oci.CRIUOptions, err)
	}
	if oci, err = (asked{lines: []string{"ghost-limit 5", "tcp-close"}}).of(OCI{}, work); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(oci.CRIUOptions); err != nil || string(text) != "ghost-limit 5\ntcp-close\n" {
		t.Errorf("it has %q, %v", text, err)
	}
	want := "CRIU_CONFIG_FILE=" + filepath.Join(work, "criu.conf")
	if !slices.Contains(oci.Environment(), want) {
		t.Errorf("the runtime gets %q", oci.Environment())
	}
	oci.CRIUDirectory = t.TempDir()
	write(t, filepath.Join(oci.CRIUDirectory, RelayName), "")
	if err := os.Chmod(filepath.Join(oci.CRIUDirectory, RelayName), 0o755); err != nil {
		t.Fatal(err)
	}
	through, err := oci.through(relaying{folder: t.TempDir()})
	if err != nil || !slices.Contains(through.Environment(), want) {
		t.Errorf("through a relay the runtime gets %q, %v", through.Environment(), err)
	}
}

// What the common file says overrules what was asked for: nothing may be in both.
func TestNothingIsSaidTwice(t *testing.T) {
	for _, line := range strings.Split(strings.TrimSpace(criuOptions), "\n") {
		option, _, _ := strings.Cut(line, " ")
		if dumpWays[option] != "" || restoreWays[option] != "" || option == "ghost-limit" {
			t.Errorf("%s is said for all containers, and can be asked for", option)
		}
	}
}
