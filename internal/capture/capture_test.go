package capture

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestACaptureIsReadAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	want := &Capture{
		State: Complete, Pod: Pod{Namespace: "default", Name: "a", UID: "1234"}, Sequence: 2,
		Trigger: Trigger{Signal: "SIGTERM", Evidence: OnlyContainer}, Settings: Settings{SchemaVersion: SchemaVersion, Containers: []string{"c"}},
		Started: time.Unix(1_700_000_000, 0).UTC(), Containers: []Container{{Name: "c", ID: "id", Image: "my-image", SpecDigest: "sha256:00"}},
		Volumes: []string{"scratch"}, Shm: true, Timings: Timings{Frozen: time.Second},
	}
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("beside it lie %v, %v", entries, err)
	}
}

func TestWhatAnotherVersionWroteIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(`{"schemaVersion": 7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "schemaVersion is 7; it may be 1") {
		t.Errorf("it says %v", err)
	}
}

func TestParseSettings(t *testing.T) {
	for value, want := range map[string]struct {
		settings Settings
		err      string
	}{
		`{"schemaVersion":1}`: {settings: Settings{SchemaVersion: 1}},
		`{"schemaVersion":1,"containers":["a","b"],"volumeSizeBytes":5}`: {settings: Settings{
			SchemaVersion: 1, Containers: []string{"a", "b"}, VolumeSizeBytes: 5,
		}},
		`{}`:   {err: "annotation memverge.ai/effective: schemaVersion is 0; it may be 1"},
		`true`: {err: "annotation memverge.ai/effective: json: cannot unmarshal bool"},
	} {
		got, err := ParseSettings(value)
		if want.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), want.err) {
				t.Errorf("%s: it says %v, want %q", value, err, want.err)
			}
			continue
		}
		if diff := cmp.Diff(want.settings, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", value, err, diff)
		}
	}
}

func TestSettingsSelectAllContainersUnlessTheyNameSome(t *testing.T) {
	if !(Settings{}).Selects("a") {
		t.Error("no name does not select all")
	}
	if some := (Settings{Containers: []string{"b"}}); some.Selects("a") || !some.Selects("b") {
		t.Error("a name does not select that container alone")
	}
}

func TestADecisionIsMadeOnceAndHoldsForItsContainers(t *testing.T) {
	node := Node{Root: t.TempDir()}
	if _, err := node.Decision("1234"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a decision it says %v", err)
	}
	want := &Decision{SchemaVersion: SchemaVersion, Action: Restore, Containers: []string{"c"}}
	if err := node.Decide("1234", *want); err != nil {
		t.Fatal(err)
	}
	if err := node.Decide("1234", Decision{Action: Cold}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second decision: %v", err)
	}
	if entries, err := os.ReadDir(node.Restores("1234")); err != nil || len(entries) != 1 {
		t.Errorf("beside it lie %v, %v", entries, err)
	}
	got, err := node.Decision("1234")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !got.Restores("c") || got.Restores("d") {
		t.Error("it restores another container, or not its own")
	}
	cold := *got
	cold.Action = Cold
	if cold.Restores("c") {
		t.Error("a cold decision restores")
	}
}

func TestTheLimitOfDeletedFilesIsThatOfTheContainer(t *testing.T) {
	for option, want := range map[string]int64{
		"ghost-limit 1":          1,
		"ghost-limit 4194304":    4 << 20,
		"ghost-limit 600K":       600 << 10,
		"ghost-limit 4M":         4 << 20,
		"ghost-limit 3G":         3 << 30,
		"ghost-limit 4294967295": MaxGhostLimit,
		"ghost-limit 16G":        MaxGhostLimit,
		"ghost-limit 8589934592": MaxGhostLimit,
		"ghost-limit 0":          GhostLimit,
		"ghost-limit -1":         GhostLimit,
		"ghost-limit 5 6":        GhostLimit,
		"ghost-limit":            GhostLimit,
		"tcp-close":              GhostLimit,
	} {
		s := Settings{OfContainers: map[string]ContainerSettings{"app": {CheckpointOptions: []string{"link-remap", option}}}}
		if got := s.GhostLimitOf("app"); got != want {
			t.Errorf("%q: %d bytes, want %d", option, got, want)
		}
		if got := s.GhostLimitOf("other"); got != GhostLimit {
			t.Errorf("%q: another container has %d", option, got)
		}
	}
}
