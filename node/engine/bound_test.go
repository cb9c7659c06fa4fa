package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transparent-checkpoint/operator/internal/capture"
)

// A KILL is held back for a capture, but not for ever.
func TestACaptureEndsWhenItsKillIsDue(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		came time.Duration // how long ago the KILL did; 0 for not
		ends bool
	}{
		"none came":                {},
		"it came a moment ago":     {came: time.Second},
		"it came not too long ago": {came: killPatience - 10*time.Second},
		"it is due":                {came: killPatience + time.Second, ends: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := quiet(t)
			a := &attempt{
				engine: e, podUID: uidOfPod, owed: signalsOf(e.Node, uidOfPod),
				members: []member{{Container: &Container{ID: "a", Name: "a", Pod: capture.Pod{UID: uidOfPod}}}},
			}
			if test.came > 0 {
				if err := a.owed.note(Signal{ContainerID: "a", Name: "KILL", Came: time.Now().Add(-test.came)}); err != nil {
					t.Fatal(err)
				}
			}
			ctx, stop := a.untilKillIsDue(t.Context())
			defer stop()
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			if ended := errors.Is(context.Cause(ctx), errKillDue); ended != test.ends {
				t.Errorf("it has ended: %t, %v", ended, context.Cause(ctx))
			}
		})
	}
}

// A restore has restorePatience, as a context of which this is the smaller copy: then CRIU is killed, also where it does not listen, and with it the runtime
// fails, so that the container can be created in the same call.
func TestARestoreEndsWithItsTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const script = "#!/bin/sh\ncase \"$*\" in *restore*) sh -c 'trap \"\" TERM INT; while :; do sleep 1; done' & wait $!; exit 1;; esac\n"
	runtime := filepath.Join(dir, "runtime")
	if err := os.WriteFile(runtime, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	err := OCI{Path: runtime}.restore(ctx, "id", dir, dir, dir, nil)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}
