package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestVolumesThatKubeletHasWrittenAreKnownByTheirLink(t *testing.T) {
	dir := t.TempDir()
	written, plain, own := filepath.Join(dir, "written"), filepath.Join(dir, "plain"), filepath.Join(dir, "own")
	const folder = "..2026_11_24_13_18_39.3615355895"
	err := errors.Join(os.Mkdir(written, 0o755), os.Mkdir(plain, 0o755), os.Mkdir(own, 0o755),
		os.Symlink(folder, filepath.Join(written, "..data")), os.Symlink("../../etc", filepath.Join(own, "..data")))
	if err != nil {
		t.Fatal(err)
	}
	got := writtenVolumes([]specs.Mount{
		{Destination: "/etc/app/", Source: written}, {Destination: "/data", Source: plain}, {Destination: "/own", Source: own},
		{Destination: "/proc", Source: "proc"},
	})
	if diff := cmp.Diff(map[string]string{"/etc/app": folder}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFilesOfWrittenVolumesAreFoundInTheNewFolder(t *testing.T) {
	volumes := map[string]string{"/etc/app": "..2026_11_24_13_18_39.2"}
	for path, want := range map[string]string{
		"/etc/app/..2026_01_02_03_04_05.1/run.sh": "/etc/app/..2026_11_24_13_18_39.2/run.sh",
		"/etc/app/..2026_01_02_03_04_05.1/a/b":    "/etc/app/..2026_11_24_13_18_39.2/a/b",
		"/etc/app/..2026_01_02_03_04_05.1":        "/etc/app/..2026_11_24_13_18_39.2",
		"/etc/app/..2026_11_24_13_18_39.2/run.sh": "",
		"/etc/app":                                    "",
		"/etc/app/..data/run.sh":                      "",
		"/etc/app/..hidden/run.sh":                    "",
		"/etc/application/..2026_01_02_03_04_05.1/a":  "",
		"/data/etc/app/..2026_01_02_03_04_05.1/a":     "",
		"/etc/app/below/..2026_01_02_03_04_05.1/file": "",
	} {
		got, moved := moveWritten(path, volumes)
		if want == "" && (moved || got != path) || want != "" && (!moved || got != want) {
			t.Errorf("%s becomes %s, %t; want %q", path, got, moved, want)
		}
	}
}
