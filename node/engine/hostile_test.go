package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/creds"
	criucore "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/transparent-checkpoint/operator/internal/capture"
	"github.com/transparent-checkpoint/operator/internal/compat"
	"github.com/transparent-checkpoint/operator/internal/keys"
)

// TestARecordDoesNotChangeTheContainer: what a state says of itself is compared with the new pod, and nothing of it gets into the bundle.
func TestARecordDoesNotChangeTheContainer(t *testing.T) {
	const own = `{"process":{"args":["app"]},"linux":{"maskedPaths":["/proc/kcore"]}}`
	for what, test := range map[string]struct {
		change func(*capture.Capture)
		reason string
		says   string
	}{
		"another image": {func(r *capture.Capture) {
			r.Containers = []capture.Container{{Name: "c", Image: "evil:1"}}
		}, keys.ColdSecurityContextMismatch, "evil:1"},
		"no container of that name": {func(r *capture.Capture) {
			r.Containers = []capture.Container{{Name: "other", Image: "app:1"}}
		}, "", `no container "c"`},
	} {
		t.Run(what, func(t *testing.T) {
			e := quiet(t)
			write(t, filepath.Join(e.Node.Root, "proc/cpuinfo"), "flags : sse2\n")
			facts, err := compat.Read(e.Node.Root)
			if err != nil {
				t.Fatal(err)
			}
			image, bundle := t.TempDir(), t.TempDir()
			record := capture.Capture{State: capture.Complete, Facts: facts}
			test.change(&record)
			if err := record.Write(image); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(bundle, "config.json"), own)
			if err := os.MkdirAll(e.Node.Restores(uidOfPod), 0o700); err != nil {
				t.Fatal(err)
			}
			c := &Container{Name: "c", Image: "app:1", Bundle: bundle, Pod: capture.Pod{UID: uidOfPod}}
			if err := e.Restore(t.Context(), RestoreOptions{Container: c, Directory: image}); err == nil {
				t.Fatal("it is restored")
			}
			result, err := e.Node.Result(uidOfPod, "c")
			if err != nil {
				t.Fatal(err)
			}
			if result.Reason != test.reason || !strings.Contains(result.Message, test.says) || result.Consumed {
				t.Errorf("the result is %+v", result)
			}
			if now, err := os.ReadFile(filepath.Join(bundle, "config.json")); err != nil || string(now) != own {
				t.Errorf("the container's own configuration is %s, %v", now, err)
			}
		})
	}
}

// TestTasksThatCannotBeReadAreNotRestored: what cannot be compared has no rights that are known.
func TestTasksThatCannotBeReadAreNotRestored(t *testing.T) {
	task := func(uid uint32) *criucore.CoreEntry {
		zero := uint32(0)
		return &criucore.CoreEntry{Mtype: criucore.CoreEntry_X86_64.Enum(), ThreadCore: &criucore.ThreadCoreEntry{
			FutexRla: new(uint64), FutexRlaLen: &zero, Creds: &creds.CredsEntry{
				Uid: &uid, Gid: &zero, Euid: &uid, Egid: &zero, Suid: &uid, Sgid: &zero, Fsuid: &uid, Fsgid: &zero, Secbits: &zero, NoNewPrivs: new(uint32(1)),
			},
		}}
	}
	spec := &specs.Spec{Process: &specs.Process{User: specs.User{UID: 1000}, NoNewPrivileges: true}, Linux: &specs.Linux{}}
	for what, test := range map[string]struct {
		images map[string]string // by name, what is in it
		says   string
	}{
		"none":           {nil, "the image has no tasks"},
		"not an image":   {map[string]string{"core-1.img": "junk"}, "read core-1.img"},
		"a huge one":     {map[string]string{"core-1.img": strings.Repeat("\x00", maxCoreSize+1)}, "read core-1.img"},
		"another's name": {map[string]string{"core-x.img": ""}, "core-x.img"},
	} {
		dir := t.TempDir()
		for name, content := range test.images {
			write(t, filepath.Join(dir, name), content)
		}
		if err := checkSecurity(dir, spec); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: the error is %v, should have %q", what, err, test.says)
		}
	}
	dir := t.TempDir() // one that has too many rights, among others that have not
	for name, uid := range map[string]uint32{"core-1.img": 1000, "core-2.img": 0, "core-3.img": 1000} {
		writeImage(t, filepath.Join(dir, name), "CORE", task(uid))
	}
	var mismatch *MismatchError
	if err := checkSecurity(dir, spec); !errors.As(err, &mismatch) {
		t.Errorf("the error is %v", err)
	}
}
