package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// store is a storage volume of a pod with the container "app".
type store struct {
	t      *testing.T
	engine *Engine
	root   string
	volume *capture.StorageVolume
	bundle string
	// trigger is that of the captures.
	trigger capture.Trigger
}

func newStore(t *testing.T) *store {
	t.Helper()
	needsRoot(t)
	s := &store{t: t, engine: quiet(t), root: t.TempDir(), bundle: t.TempDir(), trigger: capture.Trigger{Signal: "SIGTERM"}}
	s.volume = &capture.StorageVolume{Name: "data", Kind: "HostPath", Source: s.root, Mounts: map[string]string{"app": "/data"}}
	s.mounts(specs.Mount{Destination: "/data/", Source: s.root, Type: "bind", Options: []string{"rbind", "rw"}})
	if err := os.MkdirAll(s.engine.Node.Restores(uidOfPod), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

// mounts says what is mounted in the container.
func (s *store) mounts(mounts ...specs.Mount) {
	s.t.Helper()
	if err := capture.WriteJSON(filepath.Join(s.bundle, "config.json"), specs.Spec{Mounts: mounts}); err != nil {
		s.t.Fatal(err)
	}
	if err := Remember(s.engine.Node, s.container()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) container() *Container {
	return &Container{
		ID: "id", Name: "app", Sandbox: "sandbox", Bundle: s.bundle, Pod: capture.Pod{Namespace: "default", Name: "db-0", UID: uidOfPod},
		Settings: capture.Settings{StorageVolume: s.volume},
	}
}

// memory is of a program, and cannot be compressed.
var memory = func() []byte {
	data := make([]byte, 600_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
}()

// captured writes the folder of a capture as it is when it is dumped, and has it kept.
func (s *store) captured(ctx context.Context, sequence int) *capture.Capture {
	s.t.Helper()
	dir := s.t.TempDir()
	record := &capture.Capture{
		State: capture.Dumped, Pod: s.container().Pod, Sequence: sequence, Settings: s.container().Settings, Trigger: s.trigger,
		Started: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Containers: []capture.Container{{Name: "app"}},
	}
	if err := record.Write(dir); err != nil {
		s.t.Fatal(err)
	}
	write(s.t, filepath.Join(dir, "containers/app/criu/pages-1.img"), string(memory))
	for _, note := range []string{limitsFile, linksFile, volumeTriesFile, capture.ReservedFile, "agent.json"} {
		write(s.t, filepath.Join(dir, note), "of the node alone")
	}
	s.engine.keepInVolume(ctx, dir, record)
	said, err := capture.Read(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	if diff := cmp.Diff(record, said); diff != "" {
		s.t.Errorf("on the disk it is (-want +got)\n%s", diff)
	}
	return record
}

// kept are the names of the files in the volume.
func (s *store) kept() (names []string) {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.root, capture.KeptFolder))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func (s *store) path(name string) string { return filepath.Join(s.root, capture.KeptFolder, name) }

// brings has a new container bring a state, and returns where to.
func (s *store) brings(kept *capture.KeptFile) (dir string, err error) {
	s.t.Helper()
	dir = filepath.Join(s.engine.Node.Restores(uidOfPod), "states", "boot", "last")
	if err := os.RemoveAll(dir); err != nil {
		s.t.Fatal(err)
	}
	r := &restoration{engine: s.engine, RestoreOptions: RestoreOptions{Container: s.container(), Directory: dir, Kept: kept}}
	if r.spec, _, err = (Bundle{s.bundle}).Spec(); err != nil {
		s.t.Fatal(err)
	}
	err = r.bring(s.t.Context())
	if _, statErr := os.Stat(dir + partialSuffix); !errors.Is(statErr, os.ErrNotExist) {
		s.t.Errorf("what came before is still there: %v", statErr)
	}
	return dir, err
}

func TestAStateIsKeptInAVolumeAndBroughtBack(t *testing.T) {
	s := newStore(t)
	record := s.captured(t.Context(), 3)
	if record.Kept == nil || record.NotKept != "" {
		t.Fatalf("it is %+v, %q", record.Kept, record.NotKept)
	}
	want := "db-0." + uidOfPod + ".20261124T120000-3.tar.zst"
	if diff := cmp.Diff([]string{want}, s.kept()); diff != "" || record.Kept.Name != want {
		t.Errorf("%s (-want +got)\n%s", record.Kept.Name, diff)
	}
	for path, mode := range map[string]uint32{s.path(""): 0o700, s.path(want): 0o600} {
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil || stat.Mode&0o7777 != mode || stat.Uid != 0 || stat.Gid != 0 {
			t.Errorf("%s has the mode %o, and is of %d:%d, %v", path, stat.Mode, stat.Uid, stat.Gid, err)
		}
	}
	dir, err := s.brings(record.Kept)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	if err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"capture.json", "containers/app/criu/pages-1.img"}, files); diff != "" {
		t.Errorf("brought (-want +got)\n%s", diff)
	}
	data, err := os.ReadFile(filepath.Join(dir, files[len(files)-1]))
	if err != nil || !bytes.Equal(data, memory) {
		t.Errorf("its memory has %d bytes, %v", len(data), err)
	}
	if brought, err := capture.Read(dir); err != nil || brought.State != capture.Complete {
		t.Errorf("the record is %+v, %v", brought, err)
	}
	if _, err := os.Stat(filepath.Join(s.engine.Node.Restores(uidOfPod), capture.ReservedFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the reservation is there still: %v", err)
	}
}

// What lies in the volume may have been changed by any program of the pod.
func TestAChangedFileIsNotBrought(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*store, *capture.KeptFile)
		says   string
		isLost bool
	}{
		"it is gone":       {func(s *store, k *capture.KeptFile) { _ = os.Remove(s.path(k.Name)) }, "is not there", true},
		"so is its folder": {func(s *store, _ *capture.KeptFile) { _ = os.RemoveAll(s.path("")) }, "is not there", true},
		"it is longer": {func(s *store, k *capture.KeptFile) {
			file, _ := os.OpenFile(s.path(k.Name), os.O_APPEND|os.O_WRONLY, 0)
			_, _ = file.WriteString("more")
			_ = file.Close()
		}, "bytes, and had", true},
		"a bit is another one": {func(s *store, k *capture.KeptFile) {
			data, _ := os.ReadFile(s.path(k.Name))
			data[len(data)/2] ^= 1
			_ = os.WriteFile(s.path(k.Name), data, 0o600)
		}, "its SHA-256 is another one", true},
		"it is something else": {func(s *store, k *capture.KeptFile) {
			_ = os.WriteFile(s.path(k.Name), []byte(strings.Repeat("x", int(k.SizeBytes))), 0o600)
		}, "its SHA-256 is another one", true},
		"it is a link to another": {func(s *store, k *capture.KeptFile) {
			_ = os.Rename(s.path(k.Name), s.path("beside"))
			_ = os.Symlink("beside", s.path(k.Name))
		}, "is no file", true},
		"its folder is a link": {func(s *store, _ *capture.KeptFile) {
			_ = os.Rename(s.path(""), filepath.Join(s.root, "beside"))
			_ = os.Symlink("beside", strings.TrimSuffix(s.path(""), "/"))
		}, "is no file", true},
		"it is a pipe": {func(s *store, k *capture.KeptFile) {
			_ = os.Remove(s.path(k.Name))
			_ = unix.Mkfifo(s.path(k.Name), 0o600)
		}, "is no file", true},
		"it is a folder": {func(s *store, k *capture.KeptFile) {
			_ = os.Remove(s.path(k.Name))
			_ = os.Mkdir(s.path(k.Name), 0o700)
		}, "is no file", true},
		"its name leads elsewhere":       {func(_ *store, k *capture.KeptFile) { k.Name = "../etc/passwd" }, "has no name of a state", true},
		"it holds more than was written": {func(_ *store, k *capture.KeptFile) { k.ContentBytes = 4096 }, "there is more in it", false},
		"the disk of the node is full":   {func(_ *store, k *capture.KeptFile) { k.ContentBytes = 1 << 60 }, "the node's disk has", false},
		"the container does not mount the volume": {func(s *store, _ *capture.KeptFile) {
			s.volume.Mounts = map[string]string{"other": "/data"}
		}, `container "app" does not mount`, false},
		"the container may only read the volume": {func(s *store, _ *capture.KeptFile) {
			s.mounts(specs.Mount{Destination: "/data", Source: s.root, Type: "bind", Options: []string{"rbind", "ro"}})
		}, "no volume that can be written to", false},
		"the pod has no storage volume": {func(s *store, _ *capture.KeptFile) { s.volume = nil }, "the pod has no storage volume", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			kept := s.captured(t.Context(), 1).Kept
			test.change(s, kept)
			dir, err := s.brings(kept)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("it says %v", err)
			}
			if got := errors.As(err, new(*lostFileError)); got != test.isLost || test.isLost != isForGood(err) {
				t.Errorf("lost: %t, for good: %t: %v", got, isForGood(err), err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something of it is there: %v", err)
			}
		})
	}
}

func TestALostFileIsTheReasonOfAColdStart(t *testing.T) {
	s := newStore(t)
	kept := s.captured(t.Context(), 1).Kept
	if err := os.Remove(s.path(kept.Name)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.engine.Node.Restores(uidOfPod), "states", "last")
	d := capture.Decision{Action: capture.Restore, Checkpoint: "last", Directory: dir, Kept: kept, Containers: []string{"app"}}
	if err := s.engine.Node.Decide(uidOfPod, d); err != nil {
		t.Fatal(err)
	}
	err := s.engine.Restore(t.Context(), RestoreOptions{Container: s.container(), Directory: dir})
	r, resultErr := s.engine.Node.Result(uidOfPod, "app")
	if err == nil || resultErr != nil || r.Outcome != capture.RestoreFailed || r.Reason != keys.ColdVolumeStateLost || r.Consumed {
		t.Errorf("%v; the result is %+v, %v", err, r, resultErr)
	}
}

// Whatever goes wrong, the capture is on the node as it would be without a storage volume, and says so.
func TestAVolumeThatTakesNothing(t *testing.T) {
	elsewhere := t.TempDir()
	for name, test := range map[string]struct {
		before func(*store)
		says   string
	}{
		"is full": {func(s *store) {
			if err := unix.Mount("none", s.root, "tmpfs", 0, "size=4k"); err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { _ = unix.Unmount(s.root, unix.MNT_DETACH) })
		}, "no space left"},
		"is read-only": {func(s *store) {
			if err := unix.Mount("none", s.root, "tmpfs", unix.MS_RDONLY, ""); err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { _ = unix.Unmount(s.root, unix.MNT_DETACH) })
		}, "read-only file system"},
		"has a link in the place of the folder": {func(s *store) {
			if err := os.Symlink(elsewhere, filepath.Join(s.root, capture.KeptFolder)); err != nil {
				s.t.Fatal(err)
			}
		}, "too many levels of symbolic links"},
		"has a file in the place of the folder": {func(s *store) { write(s.t, filepath.Join(s.root, capture.KeptFolder), "") }, "not a directory"},
		"is mounted nowhere":                    {func(s *store) { s.mounts() }, "nothing is mounted at /data"},
		"is gone":                               {func(s *store) { _ = os.RemoveAll(s.root) }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			test.before(s)
			record := s.captured(t.Context(), 1)
			if record.Kept != nil || !strings.Contains(record.NotKept, test.says) || !strings.HasPrefix(record.NotKept, `volume "data" (HostPath `) {
				t.Errorf("it says %q; %+v", record.NotKept, record.Kept)
			}
			if left, err := os.ReadDir(s.path("")); err == nil && len(left) > 0 {
				t.Errorf("what was written is there still: %v", left)
			}
		})
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
		t.Errorf("a link was followed: %v, %v", left, err)
	}
}

func TestAVolumeIsNotWaitedForWithoutEnd(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("there is no more time"))
	record := s.captured(ctx, 1)
	if record.Kept != nil || !strings.Contains(record.NotKept, "there is no more time") {
		t.Errorf("it says %q; %+v", record.NotKept, record.Kept)
	}
}

func TestOnlyTheNewestStatesOfALineStay(t *testing.T) {
	s := newStore(t)
	own := func(sequence string) string { return "db-0." + uidOfPod + ".20261124T12" + sequence + ".tar.zst" }
	others := []string{"db-0.other.20261124T120000-1.tar.zst", "db-1.other.20200101T000000-1.tar.zst", "notes.txt"}
	for _, name := range slices.Concat(others, []string{own("0000-1"), own("0000-2"), own("0000-4") + partialSuffix}) {
		write(t, s.path(name), "a state")
	}
	if err := os.Mkdir(s.path(own("0000-5")+partialSuffix), 0o700); err != nil { // whoever makes that
		t.Fatal(err)
	}
	record := s.captured(t.Context(), 3)
	want := slices.Sorted(slices.Values(slices.Concat(others, []string{own("0000-2"), record.Kept.Name})))
	if diff := cmp.Diff(want, s.kept()); diff != "" || record.Kept.Name != own("0000-3") {
		t.Errorf("%s (-want +got)\n%s", record.Kept.Name, diff)
	}
}

// A pod can make as many names as the volume takes.
func TestManyNamesInTheFolder(t *testing.T) {
	s := newStore(t)
	const many = 2*namesAtOnce + 100
	state := func(n int) string { return fmt.Sprintf("db-0.%s.20250101T000000-%05d.tar.zst", uidOfPod, n) }
	for n := range many {
		write(t, s.path(state((n*7)%many)), "a state")
		write(t, s.path(fmt.Sprintf("other-%d", n)), "")
	}
	folder, err := openKept(s.root, false)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	seen := 0
	err = folder.each(t.Context(), many, func(string) { seen++ })
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has more than %d names", many)) || seen > many+namesAtOnce {
		t.Errorf("after %d names it says %v", seen, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errKillDue)
	if _, err := folder.prune(ctx, uidOfPod, state(10), 2); !errors.Is(err, errKillDue) {
		t.Errorf("without time it says %v", err)
	}
	left, err := folder.prune(t.Context(), uidOfPod, state(10), 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{state(many - 1), state(many - 2)}, left); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	states := slices.DeleteFunc(s.kept(), func(name string) bool { return strings.HasPrefix(name, "other-") })
	if diff := cmp.Diff([]string{state(10), state(many - 2), state(many - 1)}, states); diff != "" {
		t.Errorf("there are (-want +got)\n%s", diff)
	}
}

// What cuts off the one that writes into a volume, as the end of its memory, may do so each time.
func TestAStateIsNotWrittenIntoAVolumeWithoutEnd(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	a := &attempt{engine: s.engine, podUID: uidOfPod, members: []member{{Container: s.container()}}}
	tries := filepath.Join(dir, volumeTriesFile)
	for _, test := range []struct {
		before string
		isKept bool
	}{{"", true}, {".", true}, {"..", false}} {
		record := &capture.Capture{State: capture.Dumped, Pod: s.container().Pod, Sequence: 1, Settings: s.container().Settings, Trigger: s.trigger}
		write(t, tries, test.before)
		a.keepSettled(t.Context(), dir, record)
		if test.isKept != (record.Kept != nil) || test.isKept != (record.NotKept == "") {
			t.Errorf("after %q it is %+v, %q", test.before, record.Kept, record.NotKept)
		}
		if said, err := capture.Read(dir); err != nil || said.NotKept != record.NotKept {
			t.Errorf("after %q the disk has %+v, %v", test.before, said, err)
		}
		if counted, err := os.ReadFile(tries); err != nil || test.isKept && len(counted) != len(test.before)+1 {
			t.Errorf("after %q it has counted %q, %v", test.before, counted, err)
		}
	}
}

// A clock that is behind does not have the state go that was written just now.
func TestTheLastWrittenStateStays(t *testing.T) {
	s := newStore(t)
	for _, time := range []string{"20300101T000000-1", "20310101T000000-1"} {
		write(t, s.path("db-0."+uidOfPod+"."+time+".tar.zst"), "a state")
	}
	record := s.captured(t.Context(), 1)
	if got := s.kept(); len(got) != 2 || !slices.Contains(got, record.Kept.Name) || strings.Contains(got[1], "2030") {
		t.Errorf("there are %v", got)
	}
}

func TestLinesOfStates(t *testing.T) {
	restored := func(s *store, outcome capture.Outcome) {
		d := capture.Decision{Action: capture.Restore, Containers: []string{"app"}, KeptLine: "first"}
		if err := s.engine.Node.Decide(uidOfPod, d); err != nil {
			s.t.Fatal(err)
		}
		if err := capture.WriteJSON(s.engine.Node.ResultFile(uidOfPod, "app"), capture.Result{Container: "app", Outcome: outcome}); err != nil {
			s.t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		with func(*store)
		want string
	}{
		"its own":                      {func(*store) {}, uidOfPod},
		"that of its place":            {func(s *store) { s.volume.Line = "StatefulSet/db/db-0"; restored(s, capture.Restored) }, "c0be1d801f584f4a"},
		"that of what it goes on from": {func(s *store) { restored(s, capture.Restored) }, "first"},
		"its own, as it started cold":  {func(s *store) { restored(s, capture.RestoreFailed) }, uidOfPod},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			test.with(s)
			line, _, is := capture.ParseKeptName(s.captured(t.Context(), 1).Kept.Name)
			if !is || line != test.want {
				t.Errorf("it is of the line %q", line)
			}
		})
	}
}

// A state that does not fit does not cost the pod the one that it has.
func TestAFullVolume(t *testing.T) {
	const older, other = "db-0." + uidOfPod + ".20260101T000000-1.tar.zst", "db-1.other.20260101T000000-1.tar.zst"
	for name, test := range map[string]struct {
		older, other int // their sizes in bytes, of a million
		trigger      capture.Trigger
		isKept       bool
	}{
		"the last state takes the place of an older one": {older: len(memory), trigger: capture.Trigger{Signal: "SIGTERM"}, isKept: true},
		"that of a pod that goes on does not":            {older: len(memory), trigger: capture.Trigger{Asks: &capture.Asks{Checkpoint: "live"}}},
		"nor does the last one if it would not help":     {older: len(memory) / 4, other: len(memory), trigger: capture.Trigger{Signal: "SIGTERM"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if err := unix.Mount("none", s.root, "tmpfs", 0, "size=1000k"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(s.root, unix.MNT_DETACH) })
			write(t, s.path(other), string(memory[:test.other]))
			write(t, s.path(older), string(memory[:test.older]))
			s.trigger = test.trigger
			record := s.captured(t.Context(), 1)
			want := []string{older, other}
			if test.isKept != (record.Kept != nil) || test.isKept != (record.NotKept == "") {
				t.Fatalf("it is %+v, %q", record.Kept, record.NotKept)
			}
			if test.isKept {
				want[0] = record.Kept.Name
			} else if !strings.Contains(record.NotKept, "no space left") || !strings.Contains(record.NotKept, "and there is room for 0") {
				t.Errorf("it says %q", record.NotKept)
			}
			if diff := cmp.Diff(want, s.kept()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
