package export

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkpointctl builds the program of the version in tests/checkpointctl/go.mod, and returns what runs it.
func checkpointctl(t *testing.T) func(words ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "checkpointctl")
	build := exec.Command("go", "build", "-o", binary, "github.com/checkpoint-restore/checkpointctl")
	build.Dir = "../../tests/checkpointctl"
	if output, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("build checkpointctl: %v\n%s", err, output)
		}
		t.Skipf("checkpointctl cannot be built here: %v\n%s", err, output)
	}
	return func(words ...string) string {
		t.Helper()
		output, err := exec.Command(binary, words...).CombinedOutput()
		if err != nil {
			t.Fatalf("checkpointctl %s: %v\n%s", strings.Join(words, " "), err, output)
		}
		return string(output)
	}
}

func TestCheckpointctl(t *testing.T) {
	t.Parallel()
	run := checkpointctl(t)
	archive := filepath.Join(t.TempDir(), "checkpoint.tar")
	if err := os.WriteFile(archive, export(t, captured(t, nil), "app"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown := run("show", archive)
	for _, want := range []string{"app", "registry.test/app:1", "0123456789ab", "transparent-checkpoint", "containerd", "585.9 KiB"} {
		if !strings.Contains(shown, want) {
			t.Errorf("checkpointctl show does not say %q:\n%s", want, shown)
		}
	}
	var got []map[string]any
	if err := json.Unmarshal([]byte(run("inspect", "--stats", "--mounts", "--metadata", "--format", "json", archive)), &got); err != nil {
		t.Fatal(err)
	}
	delete(got[0]["metadata"].(map[string]any), "annotations")
	size := got[0]["checkpoint_size"].(map[string]any)
	delete(size, "root_fs_diff_size")
	if diff := cmp.Diff(map[string]any{
		"container_name": "app", "image": "registry.test/app:1", "id": "0123456789abcdef", "runtime": "transparent-checkpoint",
		"created": "0001-01-01T00:00:00Z", "checkpointed": "2026-11-26T15:06:59Z", "engine": "containerd",
		"checkpoint_size": map[string]any{"total_size": 600009., "memory_pages_size": 600000.},
		"metadata":        map[string]any{"pod_name": "web-0", "kubernetes_namespace": "shop"},
		"statistics": map[string]any{
			"freezing_time": 478., "frozen_time": 174324., "memdump_time": 113558., "memwrite_time": 88355., "pages_scanned": 65786., "pages_written": 65736.,
		},
		"mounts": []any{
			map[string]any{"destination": "/data", "type": "bind", "source": ""}, map[string]any{"destination": "/etc/hosts", "type": "bind", "source": ""},
		},
	}, got[0]); diff != "" {
		t.Errorf("checkpointctl inspect (-want +got):\n%s", diff)
	}
}
