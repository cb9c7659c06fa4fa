package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/google/go-cmp/cmp"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

const uidOfPod = "1234"

func quiet(t *testing.T) *Engine {
	t.Helper()
	return &Engine{Node: capture.Node{Root: t.TempDir()}, Log: t.Logf}
}

// write makes a file with its folders.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCompanionsComeUntilTheyHaveAResult(t *testing.T) {
	e := quiet(t)
	for name, outcome := range map[string]capture.Outcome{"there": capture.Restored, "cold": capture.RestoreFailed} {
		file := e.Node.ResultFile(uidOfPod, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := capture.WriteJSON(file, capture.Result{SchemaVersion: capture.SchemaVersion, Outcome: outcome}); err != nil {
			t.Fatal(err)
		}
	}
	r := &restoration{engine: e, RestoreOptions: RestoreOptions{
		Container: &Container{Pod: capture.Pod{UID: uidOfPod}}, Others: []string{"there", "cold", "later"},
	}}
	got, err := r.companions()
	if err != nil {
		t.Fatal(err)
	}
	want := companions{coming: []string{"later"}, restored: []string{"there"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(companions{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSharedObjectsAreMadeOnce(t *testing.T) {
	e := quiet(t)
	r := &restoration{engine: e, RestoreOptions: RestoreOptions{
		Container: &Container{Name: "c", Pod: capture.Pod{UID: uidOfPod}}, Directory: t.TempDir(),
	}}
	head := "12345678"
	for name, content := range map[string]string{"var": head + "v", "shm": head + "s", "sem": head + "e", "msg": head + "m"} {
		write(t, filepath.Join(r.images(), "ipcns-"+name+"-9.img"), content)
	}
	if err := r.shareIPC([]string{"other"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"var": head + "v", "shm": head + "s", "sem": head, "msg": head} {
		if got, err := os.ReadFile(filepath.Join(r.images(), "ipcns-"+name+"-9.img")); err != nil || string(got) != want {
			t.Errorf("image %s holds %q, %v; want %q", name, got, err, want)
		}
	}
	write(t, filepath.Join(e.Node.Restores(uidOfPod), capture.AloneFile), "they went on\n")
	if err := r.shareIPC([]string{"other"}); err == nil || !strings.Contains(err.Error(), "they went on") {
		t.Errorf("of objects that were used since it says %v", err)
	}
}

func TestContainersThatAreHeldForTooLongGoOnAndItIsSaid(t *testing.T) {
	e := quiet(t)
	held, alone := e.heldFile(uidOfPod), filepath.Join(e.Node.Restores(uidOfPod), capture.AloneFile)
	write(t, held, "")
	if err := e.Settle(t.Context(), uidOfPod); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(held); err != nil {
		t.Errorf("before its time the hold is over: %v", err)
	}
	long := time.Now().Add(-2 * togetherPatience)
	if err := os.Chtimes(held, long, long); err != nil {
		t.Fatal(err)
	}
	if err := e.AwaitCompanions(t.Context(), uidOfPod); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(held); err == nil {
		t.Error("they are still held")
	}
	if said, err := os.ReadFile(alone); err != nil || !strings.Contains(string(said), "went on without them") {
		t.Errorf("it says %q, %v", said, err)
	}
}

func TestAHalfRestoredPodTakesTheFormerStateAlong(t *testing.T) {
	e := quiet(t)
	image := t.TempDir()
	former := capture.Capture{State: capture.Complete, Containers: []capture.Container{{Name: "left"}, {Name: "right", Image: "an-image"}}}
	if err := former.Write(image); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(image, "containers/left/criu/pages.img"), "old")
	write(t, filepath.Join(image, "containers/right/criu/pages.img"), "memory")
	if err := os.MkdirAll(e.Node.Restores(uidOfPod), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := e.Node.Decide(uidOfPod, capture.Decision{Action: capture.Restore, Directory: image, Containers: []string{"left", "right"}}); err != nil {
		t.Fatal(err)
	}
	left := capture.Result{SchemaVersion: capture.SchemaVersion, Outcome: capture.Restored}
	if err := capture.WriteJSON(e.Node.ResultFile(uidOfPod, "left"), left); err != nil {
		t.Fatal(err)
	}
	a := &attempt{engine: e, podUID: uidOfPod, dir: t.TempDir(), members: []member{{Container: &Container{Name: "left", Restored: true}}}}
	if err := a.carry(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]capture.Container{{Name: "right", Image: "an-image"}}, a.record.Containers); diff != "" {
		t.Errorf("taken along (-want +got)\n%s", diff)
	}
	if got, err := os.ReadFile(filepath.Join(a.dir, "containers/right/criu/pages.img")); err != nil || string(got) != "memory" {
		t.Errorf("its memory is %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(a.dir, "containers/left")); err == nil {
		t.Error("the former state of a container that was captured anew came along, too")
	}
}

func TestARelayNamesFoldersByItsOwnDescriptors(t *testing.T) {
	folder, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	images := int32(folder.Fd())
	request := rpc.CriuReq{Type: rpc.CriuReqType_RESTORE.Enum(), Opts: &rpc.CriuOpts{ImagesDirFd: &images}}
	message, err := request.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	if message, err = ownFiles(message, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	changed := &rpc.CriuReq{}
	if err := changed.UnmarshalVT(message); err != nil {
		t.Fatal(err)
	}
	own := os.NewFile(uintptr(changed.GetOpts().GetImagesDirFd()), "images")
	defer own.Close()
	one, oneErr := own.Stat()
	other, otherErr := folder.Stat()
	if oneErr != nil || otherErr != nil || own.Fd() == folder.Fd() || !os.SameFile(one, other) {
		t.Errorf("descriptor %d is not that folder: %v, %v", own.Fd(), oneErr, otherErr)
	}
}

func TestARelayReadsWhatCRIUReports(t *testing.T) {
	for kind, want := range map[rpc.CriuReqType]string{rpc.CriuReqType_NOTIFY: preResume, rpc.CriuReqType_RESTORE: ""} {
		response := &rpc.CriuResp{Type: kind.Enum(), Success: new(true), Notify: &rpc.CriuNotify{Script: new(preResume)}}
		message, err := response.MarshalVT()
		if err != nil {
			t.Fatal(err)
		}
		if got := scriptOf(message); got != want {
			t.Errorf("of a message of type %s it says %q", kind, got)
		}
	}
}
