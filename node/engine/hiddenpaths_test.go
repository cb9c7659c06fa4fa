package engine

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestWhatIsHiddenIsWhatTheKernelHas(t *testing.T) {
	images, gone := t.TempDir(), filepath.Join(t.TempDir(), "gone")
	writeEntries(t, filepath.Join(images, "mountpoints-12.img"),
		mounted(1, 1, 9, mnt.Fstype_PROC, "/proc", ""), mounted(2, 2, 1, mnt.Fstype_PROC, gone, ""), mounted(3, 3, 1, mnt.Fstype_PROC, "/proc/sys", ""))
	spec := &specs.Spec{Linux: &specs.Linux{MaskedPaths: []string{gone}, ReadonlyPaths: []string{"/proc/sys", "/proc/uptime"}}}
	if err := errors.Join(dropGuards(images, spec), checkGuards(images, spec), addGuards(images, spec)); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := editMounts(images, func(m *mnt.MntEntry) edit {
		got = append(got, m.GetMountpoint()+" "+m.GetRoot())
		return leaveEntry
	})
	if diff := cmp.Diff([]string{"/proc /", "/proc/sys /", "/proc/uptime /uptime"}, got); err != nil || diff != "" {
		t.Errorf("its mounts: %v (-want +got)\n%s", err, diff)
	}
	spec.Linux.MaskedPaths = []string{"/proc/cpuinfo"}
	if err := checkGuards(images, spec); !errors.As(err, new(*MismatchError)) {
		t.Errorf("what the other kernel did not have: %v", err)
	}
}
