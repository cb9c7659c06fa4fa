package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestBindMountsKeepWhatTheyMayNot: CRIU takes those with the same flags for copies of each other, and forgets the flags of all but the first. In the
// dump "restored" it did.
func TestBindMountsKeepWhatTheyMayNot(t *testing.T) {
	for _, name := range []string{"parts", "restored"} {
		d := readDump(t, name)
		images := d.images(t)
		for range 2 { // as when a restore is tried again
			if err := keepFlags(images, t.TempDir(), d.spec, nil); err != nil {
				t.Fatal(err)
			}
		}
		got, seen := map[string]string{}, map[uint32]string{}
		err := editMounts(images, func(m *mnt.MntEntry) edit {
			if m.ExtKey == nil {
				if m.GetFlags() != d.at(m.GetMountpoint()).GetFlags() {
					t.Errorf("%s: the flags of %s, which CRIU makes anew, are changed", name, m.GetMountpoint())
				}
				return leaveEntry
			}
			got[m.GetMountpoint()] = flagWords(m.GetFlags())
			if other := seen[m.GetFlags()]; other != "" && m.GetFlags()&restricting != 0 {
				t.Errorf("%s: %s and %s have the same flags", name, other, m.GetMountpoint())
			}
			seen[m.GetFlags()] = m.GetMountpoint()
			return leaveEntry
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, point := range []string{"/cm", "/zm", "/ha", "/hb", "/hc"} {
			if got[point] != "ro" {
				t.Errorf("%s: %s is mounted %s", name, point, got[point])
			}
		}
		if got["/scratch"] != "as they are" {
			t.Errorf("%s: /scratch is mounted %s", name, got["/scratch"])
		}
	}
}

// TestAPartOfAVolumeIsNoMoreThanTheVolume: below one that is read-only a part of it is that as well, unless the node mounts it there.
func TestAPartOfAVolumeIsNoMoreThanTheVolume(t *testing.T) {
	for what, onNode := range map[string]bool{"the node has nothing there": false, "the node has it": true} {
		d := readDump(t, "nested")
		if onNode {
			d.shows(t, "ext4", d.at("/nested-ro/b").GetRoot(), "b")
		}
		images := d.images(t)
		if err := keepFlags(images, t.TempDir(), d.spec, d.lines); !errors.As(err, new(*MismatchError)) {
			t.Errorf("%s: a part that is not there: %v", what, err)
		}
		if err := os.Mkdir(filepath.Join(d.node, "src"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := keepFlags(images, t.TempDir(), d.spec, d.lines); err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		err := editMounts(images, func(m *mnt.MntEntry) edit {
			got[m.GetMountpoint()] = m.GetFlags()&unix.MS_RDONLY != 0
			return leaveEntry
		})
		want := map[string]bool{"/nested": false, "/nested/b": false, "/nested-ro": true, "/nested-ro/b": !onNode, "/nested-ro/t": false}
		for point := range got {
			if _, is := want[point]; !is {
				delete(got, point)
			}
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", what, err, diff)
		}
	}
}

func TestFlagsAreThoseThatAreAskedForLast(t *testing.T) {
	for _, test := range []struct {
		options []string
		want    string
	}{
		{[]string{"rbind", "rprivate", "rw"}, "as they are"}, {[]string{"rw", "ro", "nosuid"}, "ro,nosuid"}, {[]string{"ro", "rw"}, "as they are"},
		{[]string{"rbind", "rro", "noexec", "exec", "nodev", "relatime", "mode=755"}, "ro,nodev"},
	} {
		if got := flagWords(askedFlags(test.options)); got != test.want {
			t.Errorf("%v: %s, want %s", test.options, got, test.want)
		}
	}
}

func TestSpareFlagsCount(t *testing.T) {
	seen := map[uint32]bool{}
	for count := range 1 << len(spareFlags) {
		seen[withSpare(unix.MS_RDONLY|unix.MS_SILENT, count)] = true
	}
	if len(seen) != 64 {
		t.Errorf("%d different ones", len(seen))
	}
}
